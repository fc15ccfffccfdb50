"""Even quantizer with a step for each channel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from splitlearn.numpy_quantizers.base import Floats, Grid, Symbols, checked_integer
from splitlearn.numpy_quantizers.sticky import widened

TINIEST = 2.0**-100  # its inverse, times any symbol, is finite


class GainedGrid(Grid):
    """Rounds latent · gain to the nearest integer q and restores q · (1 / gain); twin of `quantizers.GainedStep`.

    The first axis of a latent is its channels; a single gain applies to all elements.

    Args:
        gain: float32 `(channels,)`, positive.
        levels: size of the alphabet, 2…256.

    Raises:
        ValueError: if shape or type does not fit, a gain is not positive and finite, or `levels` is out of range.
    """

    floats_per_image: ClassVar[int] = 0

    def __init__(self, gain: NDArray[np.float32], levels: int = 256) -> None:
        if gain.dtype != np.float32 or gain.ndim != 1 or not len(gain):
            raise ValueError("the gain must be a float32 array (channels,)")
        if not np.isfinite(gain).all() or gain.min() < TINIEST:
            raise ValueError(f"the gain must be finite and at least {TINIEST}")
        self.gain = np.ascontiguousarray(gain)
        self.levels = checked_integer("levels", levels, 2, 256)

    def _quantize(self, latent: Floats, symbols: Symbols) -> tuple[float, ...]:
        if not np.isfinite(latent).all():
            raise ValueError("the latent holds NaN or infinity and cannot be quantized")
        with np.errstate(over="ignore"):  # infinity saturates
            scaled = np.rint(self._rows(latent) * self.gain[:, None])
        q = scaled.clip(-(self.levels // 2), (self.levels - 1) // 2).astype(np.int16).reshape(-1)
        symbols[:] = np.where(q < 0, -2 * q - 1, 2 * q)
        return ()

    def _dequantize(self, symbols: Symbols, floats: tuple[float, ...], latent: Floats) -> None:
        s = self._rows(symbols).astype(np.int16)
        latent[:] = (((s >> 1) ^ -(s & 1)).astype(np.float32) * (np.float32(1) / self.gain)[:, None]).reshape(-1)

    def intervals(self, margin: float) -> tuple[Floats, Floats]:
        """Return between which values `StickyGrid` keeps each symbol."""
        each = np.tile(np.arange(self.levels).astype(np.uint8), (len(self.gain), 1))
        return widened(self.dequantize(each), margin)

    def empty_floats(self) -> tuple[float, ...]:  # noqa: D102
        return ()

    def _rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array with one row for each gain."""
        channels = len(self.gain)
        if channels > 1 and array.shape[:1] != (channels,):
            raise ValueError(f"this grid has gains for {channels} channels, the latent has shape {array.shape}")
        return array.reshape(channels, array.size // channels)
