"""Metrics: size of payloads, measured and estimated; scores of segmentation and detection."""

from splitlearn.metrics.objects import ObjectScores
from splitlearn.metrics.pixels import PixelAccuracy, pixel_scores
from splitlearn.metrics.rate import BitsPerPixel, BytesPerImage, EstimatedBits
from splitlearn.metrics.share import Share

__all__ = ["BitsPerPixel", "BytesPerImage", "EstimatedBits", "ObjectScores", "PixelAccuracy", "Share", "pixel_scores"]
