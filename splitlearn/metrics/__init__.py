"""How many bytes cross the cut, measured and estimated."""

from splitlearn.metrics.rate import BitsPerPixel, BytesPerImage, EstimatedBits

__all__ = ["BitsPerPixel", "BytesPerImage", "EstimatedBits"]
