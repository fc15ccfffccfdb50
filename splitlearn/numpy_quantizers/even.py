"""Quantizers with evenly spaced levels.

An image is quantized in two passes, one for its extremes (which also detects NaN) and one for its symbols. Both are
limited by memory bandwidth, not by arithmetic.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from splitlearn.jit import njit
from splitlearn.numpy_quantizers.base import TINY, Floats, Grid, Symbols, checked_integer, flat_latent
from splitlearn.numpy_quantizers.sticky import widened

_EACH = np.arange(256).astype(np.uint8)
ROUNDER = np.float32(1.5 * 2**23)  # x + ROUNDER − ROUNDER is the integer nearest to x, ties to even, for |x| < 2²²
MAGNITUDE = 2**31 - 1
EVEN, ZIGZAG = 0, 1  # numbering of levels: ascending, or 0, −1, 1, −2, 2, …


Plan = tuple[int, float, int, int]
"""Parameters of an evenly spaced quantizer: a plain tuple, which compiled code accepts faster than a named tuple.

They are the numbering, EVEN or ZIGZAG; the inverse of the step, 0 if each image has its own; the lowest level; and the
size of the alphabet.
"""


class EvenGrid(Grid):
    """Base class of quantizers with evenly spaced levels; `plan` lets compiled codecs quantize too."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """The quantizer's parameters for the compiled function `apply_plan`."""

    @abstractmethod
    def _spacing(self, floats: tuple[float, ...]) -> tuple[float, float]:
        """Return the position of level 0 and the step."""

    def _quantize(self, latent: Floats, symbols: Symbols) -> tuple[float, ...]:
        return self.side_floats(apply_plan(flat_latent(latent), self.plan, symbols))

    def _dequantize(self, symbols: Symbols, floats: tuple[float, ...], latent: Floats) -> None:
        undo_plan(np.ascontiguousarray(symbols).reshape(-1), self.plan, self._spacing(floats), latent)

    def side_floats(self, extremes: tuple[float, float]) -> tuple[float, ...]:
        """Return the floats to send with the symbols of an image with these extremes, its smallest and largest value.

        Raises:
            ValueError: if the extremes are not finite.
        """
        if not math.isfinite(extremes[1] - extremes[0]):  # in double precision, finite for all finite float32
            raise ValueError("the latent holds NaN or infinity and cannot be quantized")
        return extremes[: self.floats_per_image]

    def empty_floats(self) -> tuple[float, ...]:  # noqa: D102
        return self.side_floats((0.0, 0.0))

    def values(self, floats: tuple[float, ...] = ()) -> Floats:
        """Return the dequantized value of each symbol, float32 `(levels,)`, for an image with these floats."""
        values = np.empty(self.levels, np.float32)
        undo_plan(_EACH[: self.levels], self.plan, self.spacing(floats), values)
        return values

    def intervals(self, margin: float) -> tuple[Floats, Floats]:
        """Return between which values `StickyGrid` keeps each symbol; raises as `Grid.intervals`."""
        if self.floats_per_image:
            return super().intervals(margin)
        return widened(self.values()[None], margin)

    def spacing(self, floats: tuple[float, ...]) -> tuple[float, float]:
        """Return the value of level 0 and the distance between levels, for `undo_plan`; raises as `check_floats`."""
        self.check_floats(floats)
        return self._spacing(floats)


@dataclass(frozen=True)
class MinMaxGrid(EvenGrid):
    """Quantizer with 2^bits even levels between the extremes of each image; twin of `quantizers.MinMax`.

    Args:
        bits: n, bits per symbol, 2…8.

    Raises:
        ValueError: if `bits` is not in 2…8.

    Reference: Carra & Neglia 2023, Sec. V.
    """

    bits: int = 8
    floats_per_image: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", checked_integer("bits", self.bits, 2, 8))

    @cached_property
    def levels(self) -> int:  # type: ignore[override]
        """Size of the alphabet, 2^bits."""
        return 1 << self.bits

    @cached_property
    def plan(self) -> Plan:  # noqa: D102
        return EVEN, 0.0, 0, self.levels

    def _spacing(self, floats: tuple[float, ...]) -> tuple[float, float]:
        return floats[0], (floats[1] - floats[0]) / (self.levels - 1)


@dataclass(frozen=True)
class StepGrid(EvenGrid):
    """Quantizer to multiples of a fixed step, numbered by zig-zag from zero; twin of `quantizers.Step`.

    Args:
        step: Q, the distance between levels.
        levels: size of the alphabet, 2…256.

    Raises:
        ValueError: if the step is not positive, 256 steps exceed the range of float32, or `levels` is out of range.

    Reference: Datta et al. 2022, Sec. II.
    """

    step: float = 1.0
    levels: int = 256
    floats_per_image: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", _checked_scale("step", self.step))
        object.__setattr__(self, "levels", checked_integer("levels", self.levels, 2, 256))

    @cached_property
    def plan(self) -> Plan:  # noqa: D102
        return ZIGZAG, float(1 / np.float32(self.step)), -(self.levels // 2), self.levels

    def _spacing(self, floats: tuple[float, ...]) -> tuple[float, float]:
        return 0.0, float(np.float32(self.step))


@dataclass(frozen=True)
class AffineGrid(EvenGrid):
    """Quantizer with levels (s − zero_point) · scale, as of INT8 activations in torch; twin of `quantizers.Affine`.

    Args:
        scale: distance between levels.
        zero_point: symbol of the value 0.
        levels: size of the alphabet, 2…256.

    Raises:
        ValueError: if the scale is not positive, 256 · scale exceeds the range of float32, or `zero_point` or `levels`
            is out of range.
    """

    scale: float = 1.0
    zero_point: int = 0
    levels: int = 256
    floats_per_image: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _checked_scale("scale", self.scale))
        object.__setattr__(self, "levels", checked_integer("levels", self.levels, 2, 256))
        object.__setattr__(self, "zero_point", checked_integer("zero_point", self.zero_point, 0, self.levels - 1))

    @cached_property
    def plan(self) -> Plan:  # noqa: D102
        return EVEN, float(1 / np.float32(self.scale)), -self.zero_point, self.levels

    def _spacing(self, floats: tuple[float, ...]) -> tuple[float, float]:
        return 0.0, float(np.float32(self.scale))


def _checked_scale(name: str, scale: float) -> float:
    """Return the distance between levels as a Python float."""
    if not (math.isfinite(scale) and TINY <= scale <= float(np.finfo(np.float32).max) / 256):
        raise ValueError(f"{name} must be positive and lie in the range of float32, got {scale}")
    return float(scale)


@njit
def apply_plan(latent: Floats, plan: Plan, symbols: Symbols) -> tuple[float, float]:
    """Quantize a flat latent to `symbols`; return its extremes, one of which is not finite if any value is not."""
    ends = extremes(latent)
    number(latent, plan, scaling(plan, ends), symbols)
    return ends


@njit
def scaling(plan: Plan, ends: tuple[float, float]) -> tuple[np.float32, np.float32, np.float32]:
    """Return scale, offset and factor for an image with the extremes `ends`.

    For a value x, (x · scale − offset) · factor is then 0 at level 0, 1 at level 1, and so on.
    """
    _, inverse, _, levels = plan
    lowest, highest = ends
    factor, scale, offset = np.float32(inverse), np.float32(1), np.float32(0)
    if factor == 0:
        # A power of two brings the range to 1…2, so that neither the range nor its inverse leaves float32.
        half_range = max(highest / 2 - lowest / 2, TINY)
        scale = np.float32(math.ldexp(1.0, -min(math.frexp(half_range)[1], 126)))
        offset = np.float32(lowest) * scale
        span = np.float32(highest) * scale - offset
        factor = np.float32(levels - 1) / span if span > 0 else np.float32(0)
    return scale, offset, factor


@njit
def number(latent: Floats, plan: Plan, how: tuple[np.float32, np.float32, np.float32], symbols: Symbols) -> None:
    """Quantize values of an image to `symbols`; `how` is the result of `scaling` for the image."""
    scale, offset, factor = how
    numbering, _, low, levels = plan
    high = low + levels - 1
    if numbering == EVEN:
        to_symbols(latent, scale, offset, factor, low, high, symbols)
    else:
        to_zigzag(latent, factor, low, high, symbols)


@njit
def extremes(latent: Floats) -> tuple[float, float]:
    """Return the smallest and largest value of a flat array, (0, 0) if it is empty; one of them is NaN if any value is.

    Floats are compared as integers, which is vectorized: with inverted bits for negative numbers, their bit patterns
    have the order of the values. Patterns of NaN lie beyond those of infinity.
    """
    if latent.size == 0:
        return 0.0, 0.0
    patterns = latent.view(np.int32)
    least, most = np.int32(MAGNITUDE), np.int32(-MAGNITUDE - 1)
    for i in range(patterns.size):  # by index, which is vectorized
        pattern = patterns[i]
        order = np.int32(pattern ^ np.int32(np.int32(pattern >> np.int32(31)) & np.int32(MAGNITUDE)))
        least = np.int32(min(least, order))
        most = np.int32(max(most, order))
    ends = np.array([least, most], np.int32)
    ends ^= (ends >> np.int32(31)) & np.int32(MAGNITUDE)
    values = ends.view(np.float32)
    return float(values[0]) + 0.0, float(values[1]) + 0.0  # a negative zero becomes positive


@njit
def to_symbols(
    latent: Floats, scale: np.float32, offset: np.float32, factor: np.float32, low: int, high: int, symbols: Symbols
) -> None:
    """Write to `symbols`, for each value x, round((x · scale − offset) · factor), clamped to low…high, minus low."""
    least, most = np.float32(low), np.float32(high)
    for i in range(latent.size):
        position = (latent[i] * scale - offset) * factor
        position = position if position > least else least
        position = position if position < most else most
        symbols[i] = np.uint8(np.int32((position + ROUNDER) - ROUNDER - least))


@njit
def to_zigzag(latent: Floats, factor: np.float32, low: int, high: int, symbols: Symbols) -> None:
    """Write to `symbols`, for q = round(x · factor), clamped to low…high, 2q if q ≥ 0, else −2q − 1."""
    least, most = np.float32(low), np.float32(high)
    for i in range(latent.size):
        position = latent[i] * factor
        position = position if position > least else least
        position = position if position < most else most
        q = np.int32((position + ROUNDER) - ROUNDER)
        symbols[i] = np.uint8((q << np.int32(1)) ^ (q >> np.int32(31)))


@njit
def undo_plan(symbols: Symbols, plan: Plan, spacing: tuple[float, float], latent: Floats) -> None:
    """Dequantize: write origin + q · step for the level q of each symbol to `latent`, with (origin, step) = `spacing`.

    The value is computed in double precision and rounded once.
    """
    origin, step = spacing
    numbering, _, lowest, _ = plan
    if numbering == EVEN:
        low = np.int32(lowest)
        for i in range(symbols.size):
            latent[i] = np.float32(origin + np.float64(np.int32(symbols[i]) + low) * step)
        return
    for i in range(symbols.size):
        s = np.int32(symbols[i])
        latent[i] = np.float32(origin + np.float64((s >> np.int32(1)) ^ -(s & np.int32(1))) * step)
