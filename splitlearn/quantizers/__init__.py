"""Quantizers: floats to symbols and back, image by image; and their calibration."""

from splitlearn.quantizers.affine import Affine
from splitlearn.quantizers.base import Quantizer
from splitlearn.quantizers.clipped import Clipped
from splitlearn.quantizers.entropy_constrained import (
    CodeLengths,
    Design,
    IdealLengths,
    TruncatedUnaryLengths,
    design_steps,
    entropy_constrained,
)
from splitlearn.quantizers.gained import GainedStep
from splitlearn.quantizers.histogram import channel_histogram, histogram
from splitlearn.quantizers.laplace import AsymmetricLaplace
from splitlearn.quantizers.limits import LaplaceLimits, LeastError, Limits, ReluLimits
from splitlearn.quantizers.min_max import MinMax
from splitlearn.quantizers.statistics import LatentStatistics
from splitlearn.quantizers.step import Step
from splitlearn.quantizers.sticky import Sticky

__all__ = [
    "Affine",
    "AsymmetricLaplace",
    "Clipped",
    "CodeLengths",
    "Design",
    "GainedStep",
    "IdealLengths",
    "LaplaceLimits",
    "LatentStatistics",
    "LeastError",
    "Limits",
    "MinMax",
    "Quantizer",
    "ReluLimits",
    "Step",
    "Sticky",
    "TruncatedUnaryLengths",
    "channel_histogram",
    "design_steps",
    "entropy_constrained",
    "histogram",
]
