"""Quantization of frames with hysteresis, so that noise around a threshold does not change symbols."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit
from splitlearn.numpy_quantizers.base import Floats, Grid, Symbols, check_output, flat_latent


class StickyGrid:
    """Quantizes frames of a video: a value keeps the symbol of the frame before until it has left its level clearly.

    A symbol is kept while the value lies within its level, widened on each side by `margin` times the distance to the
    neighbouring level; then the value gets the symbol that `grid` gives it. Nobody needs to know of it to dequantize.
    Between the outermost levels a value differs from its reconstruction by at most ½ + margin distances of levels, if
    thresholds lie halfway between levels. With a margin of 0, symbols are those of `grid`.

    The symbols of the frame before are given and returned; nothing of a video is kept here, so that one object serves
    many videos, and a lost frame cannot spoil the next ones.

    Args:
        grid: quantizer with fixed levels.
        margin: 0…0.5, in distances of levels.

    Raises:
        ValueError: if the margin is out of range, or the levels of `grid` depend on the image.
    """

    def __init__(self, grid: Grid, margin: float = 0.15) -> None:
        if not 0 <= margin <= 0.5:
            raise ValueError(f"margin is 0…0.5, in distances of levels, got {margin}")
        self.grid, self.margin = grid, margin
        self.levels = grid.levels
        self.lows, self.highs = grid.intervals(margin)

    def quantize(
        self, latent: Floats, before: Symbols | None = None, out: Symbols | None = None
    ) -> tuple[Symbols, tuple[float, ...]]:
        """Return the symbols of a frame and the floats that `grid.dequantize` needs.

        Args:
            latent: float32 array of any shape.
            before: symbols of the frame before, of that shape; None for a first frame.
            out: contiguous uint8 array of that shape for the result; by default a new one. It may be `before`.

        Raises:
            ValueError: as `Grid.quantize`, or if `before` has another shape or symbols that the grid has not.
        """
        if before is None or self.margin == 0:
            return self.grid.quantize(latent, out)
        if not isinstance(before, np.ndarray) or before.dtype != np.uint8 or before.shape != latent.shape:
            given = f"{before.dtype} {before.shape}" if isinstance(before, np.ndarray) else type(before).__name__
            raise ValueError(f"the frame before is uint8 symbols of the latent's shape {latent.shape}, got {given}")
        symbols, floats = self.grid.quantize(latent)
        flat = np.ascontiguousarray(before).reshape(-1)
        if not keep_symbols(flat_latent(latent), flat, self.lows, self.highs, symbols.reshape(-1)):
            raise ValueError(f"the frame before holds a symbol that is not below levels={self.levels}")
        if out is None:
            return symbols, floats
        check_output(out, np.uint8, latent.shape)
        out[...] = symbols
        return out, floats


@njit
def keep_symbols(latent: Floats, before: Symbols, lows: Floats, highs: Floats, symbols: Symbols) -> bool:
    """Write to `symbols` the ones before where values lie in their intervals; return False if one has none."""
    channels, levels = lows.shape
    size = latent.size // channels
    for channel in range(channels):
        for i in range(channel * size, (channel + 1) * size):
            symbol = before[i]
            if symbol >= levels:
                return False
            if lows[channel, symbol] < latent[i] <= highs[channel, symbol]:
                symbols[i] = symbol
    return True


def widened(values: NDArray[np.float32], margin: float) -> tuple[Floats, Floats]:
    """Return the intervals of levels with thresholds halfway between them, float32 `(channels, levels)` each.

    Args:
        values: value of each symbol, `(channels, levels)`, in any order.
        margin: as of `StickyGrid`.
    """
    wide = values.astype(np.float64)
    order = np.argsort(wide, axis=1, kind="stable")
    sorted_values = np.take_along_axis(wide, order, 1)
    thresholds = sorted_values[:, :-1] + np.diff(sorted_values) / 2
    lows, highs = np.empty_like(values), np.empty_like(values)
    for place, rising in zip((lows, highs), between(sorted_values, thresholds, margin), strict=True):
        np.put_along_axis(place, order, rising, 1)
    return lows, highs


def between(values: NDArray[np.floating], thresholds: NDArray[np.floating], margin: float) -> tuple[Floats, Floats]:
    """Return the intervals of rising levels `(channels, levels)` with thresholds between them, as `widened`."""
    room = margin * np.diff(values.astype(np.float64))
    ends = np.full((len(values), 1), math.inf)
    lows = np.concatenate([-ends, thresholds - room], axis=1)
    highs = np.concatenate([thresholds + room, ends], axis=1)
    return lows.astype(np.float32), highs.astype(np.float32)
