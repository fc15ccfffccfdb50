"""Quantizer with arbitrary levels for each channel, found by calibration."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit
from splitlearn.numpy_quantizers.base import Floats, Grid, Symbols, flat_latent
from splitlearn.numpy_quantizers.even import extremes
from splitlearn.numpy_quantizers.sticky import between


class ClippedGrid(Grid):
    """Quantizer with thresholds and a table of values for each channel; twin of `quantizers.Clipped`.

    The first axis of a latent is its channels; thresholds and values with one row apply to all elements.

    Args:
        thresholds: float32 `(channels, levels − 1)`, ascending; a symbol is the number of thresholds below the value.
        values: float32 `(channels, levels)`: the dequantized value of each symbol.

    Raises:
        ValueError: if shapes or types do not fit, or thresholds are not ascending.

    Reference: Cohen, Choi & Bajić 2020.
    """

    floats_per_image: ClassVar[int] = 0

    def __init__(self, thresholds: NDArray[np.float32], values: NDArray[np.float32]) -> None:
        if thresholds.dtype != np.float32 or values.dtype != np.float32 or values.ndim != 2:
            raise ValueError(
                "thresholds and values must be float32 arrays (channels, levels − 1) and (channels, levels)"
            )
        if not 2 <= values.shape[1] <= 256 or thresholds.shape != (len(values), values.shape[1] - 1):
            raise ValueError(f"{thresholds.shape} thresholds do not go with {values.shape} values")
        ascending = bool((thresholds[:, 1:] >= thresholds[:, :-1]).all())  # False with NaN
        if not np.isfinite(values).all() or np.isnan(thresholds[:, 0]).any() or not ascending:
            raise ValueError("values must be finite, and thresholds ascending in each channel")
        self.thresholds, self.values = np.ascontiguousarray(thresholds), np.ascontiguousarray(values)
        self.levels = values.shape[1]

    def _quantize(self, latent: Floats, symbols: Symbols) -> tuple[float, ...]:
        self._check_channels(latent.shape)
        if not count_below(flat_latent(latent), self.thresholds, symbols):
            raise ValueError("the latent holds NaN or infinity and cannot be quantized")
        return ()

    def _dequantize(self, symbols: Symbols, floats: tuple[float, ...], latent: Floats) -> None:
        self._check_channels(symbols.shape)
        look_up(np.ascontiguousarray(symbols).reshape(-1), self.values, latent)

    def intervals(self, margin: float) -> tuple[Floats, Floats]:
        """Return between which values `StickyGrid` keeps each symbol."""
        return between(self.values, self.thresholds, margin)

    def empty_floats(self) -> tuple[float, ...]:  # noqa: D102
        return ()

    def _check_channels(self, shape: tuple[int, ...]) -> None:
        channels = len(self.values)
        if channels > 1 and shape[:1] != (channels,):
            raise ValueError(f"this grid is calibrated for {channels} channels, the latent has shape {shape}")

    def __repr__(self) -> str:
        return f"ClippedGrid(levels={self.levels}, channels={len(self.values)})"


@njit
def count_below(latent: Floats, thresholds: NDArray[np.float32], symbols: Symbols) -> bool:
    """Write to `symbols` how many thresholds of its channel lie below each value; return whether all values are finite.

    Each threshold takes one pass over a part of the latent that fits into the nearest cache: unlike a search,
    comparisons are vectorized.
    """
    lowest, highest = extremes(latent)
    if latent.size == 0 or not math.isfinite(highest - lowest):
        return latent.size == 0
    channels, count = thresholds.shape
    size = latent.size // channels
    for channel in range(channels):
        for start in range(channel * size, (channel + 1) * size, PART):
            end = min(start + PART, (channel + 1) * size)
            for i in range(start, end):
                symbols[i] = 0
            for k in range(count):
                threshold = thresholds[channel, k]
                for i in range(start, end):
                    symbols[i] += np.uint8(latent[i] > threshold)
    return True


@njit
def look_up(symbols: Symbols, table: NDArray[np.float32], latent: Floats) -> None:
    """Write the value of each symbol to `latent`, from the table of its channel."""
    channels = len(table)
    if symbols.size == 0:
        return
    size = symbols.size // channels
    for channel in range(channels):
        for i in range(channel * size, (channel + 1) * size):
            latent[i] = table[channel, symbols[i]]


PART = 4096  # values, 16 KB
