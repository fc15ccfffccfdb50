"""Quantizers: floats to symbols and back, image by image."""

from splitlearn.quantizers.affine import Affine
from splitlearn.quantizers.base import Quantizer
from splitlearn.quantizers.histogram import channel_histogram, histogram
from splitlearn.quantizers.min_max import MinMax
from splitlearn.quantizers.step import Step

__all__ = ["Affine", "MinMax", "Quantizer", "Step", "channel_histogram", "histogram"]
