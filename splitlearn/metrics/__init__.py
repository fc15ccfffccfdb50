"""How many bytes cross the cut, measured and estimated; how well pixels are classified."""

from splitlearn.metrics.pixels import PixelAccuracy, pixel_scores
from splitlearn.metrics.rate import BitsPerPixel, BytesPerImage, EstimatedBits

__all__ = ["BitsPerPixel", "BytesPerImage", "EstimatedBits", "PixelAccuracy", "pixel_scores"]
