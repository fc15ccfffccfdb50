"""Quantizers of numpy arrays, for devices without torch; bit-exact twins of `splitlearn.quantizers`."""

from splitlearn.numpy_quantizers.base import TINY, Grid, check_latent, check_output, checked_integer, flat_latent
from splitlearn.numpy_quantizers.clipped import ClippedGrid
from splitlearn.numpy_quantizers.even import (
    AffineGrid,
    EvenGrid,
    MinMaxGrid,
    Plan,
    StepGrid,
    apply_plan,
    extremes,
    number,
    scaling,
    undo_plan,
)
from splitlearn.numpy_quantizers.gained import GainedGrid
from splitlearn.numpy_quantizers.sticky import StickyGrid

__all__ = [
    "TINY",
    "AffineGrid",
    "ClippedGrid",
    "EvenGrid",
    "GainedGrid",
    "Grid",
    "MinMaxGrid",
    "Plan",
    "StepGrid",
    "StickyGrid",
    "apply_plan",
    "check_latent",
    "check_output",
    "checked_integer",
    "extremes",
    "flat_latent",
    "number",
    "scaling",
    "undo_plan",
]
