"""Cut any network at a named module into a head and a tail with bit-exact results."""

from splitlearn.models.cutting.cut import Split, crossing_shapes, crossing_tensors, split
from splitlearn.models.cutting.detector import is_detector
from splitlearn.models.cutting.names import CutError, check_name, legal_cuts
from splitlearn.models.cutting.pixels import PixelSplit, from_pixels

__all__ = [
    "CutError",
    "PixelSplit",
    "Split",
    "check_name",
    "crossing_shapes",
    "crossing_tensors",
    "from_pixels",
    "is_detector",
    "legal_cuts",
    "split",
]
