"""Quantizers: floats to symbols and back, image by image."""

from splitlearn.quantizers.base import Quantizer
from splitlearn.quantizers.min_max import MinMax
from splitlearn.quantizers.step import Step

__all__ = ["MinMax", "Quantizer", "Step"]
