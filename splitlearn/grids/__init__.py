"""Quantizers of numpy arrays, for devices without torch; `splitlearn.quantizers` are their torch twins, bit for bit."""

from splitlearn.grids.base import TINY, Grid, check_latent, check_output, checked_integer, flat_latent
from splitlearn.grids.clipped import ClippedGrid
from splitlearn.grids.even import (
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

__all__ = [
    "TINY",
    "AffineGrid",
    "ClippedGrid",
    "EvenGrid",
    "Grid",
    "MinMaxGrid",
    "Plan",
    "StepGrid",
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
