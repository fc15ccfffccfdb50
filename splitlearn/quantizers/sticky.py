"""Quantization of frames with hysteresis, so that noise around a threshold does not change symbols."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitlearn.numpy_quantizers import StickyGrid
from splitlearn.quantizers.base import Quantizer, as_single


class Sticky:
    """Quantizes frames of videos: a value keeps the symbol of the frame before until it has left its level clearly.

    Twin of `StickyGrid`, which says what is kept and how large errors are. Use it in testing; training is of single
    images, and `quantizer.dequantize` restores its symbols.

    Args:
        quantizer: quantizer with fixed levels: `Clipped`, `Step`, `Affine` or `GainedStep`.
        margin: 0…0.5, in distances of levels.

    Raises:
        ValueError: if the margin is out of range, or levels depend on the image, as those of `MinMax` do.
    """

    def __init__(self, quantizer: Quantizer, margin: float = 0.15) -> None:
        grid = quantizer.grid
        if grid is None:
            raise ValueError(f"{type(quantizer).__name__} has no quantizer of numpy arrays, whose levels are needed")
        self.quantizer, self.margin = quantizer, margin
        self._grid = StickyGrid(grid, margin)

    def quantize(self, latent: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the symbols of a batch of frames, each of another video, and the floats of `quantizer.quantize`.

        Args:
            latent: float tensor `(B, …)`.
            before: uint8 symbols of the frames before, shaped like `latent`; None for first frames.

        Raises:
            ValueError: if the latent holds NaN or infinity, or `before` has another type or shape, or symbols that the
                quantizer has not.
        """
        symbols, floats = self.quantizer.quantize(latent)
        if before is None or self.margin == 0:
            return symbols, floats
        if before.dtype != torch.uint8 or before.shape != latent.shape:
            raise ValueError(
                f"the frames before are uint8 symbols of the latent's shape {tuple(latent.shape)}, got {before.dtype} "
                f"{tuple(before.shape)}"
            )
        if before.numel() and int(before.max()) >= self.quantizer.levels:
            raise ValueError(f"a frame before holds a symbol that is not below levels={self.quantizer.levels}")
        values = as_single(latent)
        low, high = (self._of(table, before) for table in (self._grid.lows, self._grid.highs))
        return torch.where((low < values) & (values <= high), before, symbols), floats

    def _of(self, table: NDArray[np.float32], symbols: Tensor) -> Tensor:
        """Return the entries `(channels, levels)` of symbols, whose axis 1 has the channels if there are several."""
        rows = torch.from_numpy(table).to(symbols.device)
        if len(rows) == 1:
            return rows[0][symbols.long()]
        channels = torch.arange(len(rows), device=symbols.device).view(-1, *[1] * (symbols.dim() - 2))
        return rows[channels, symbols.long()]
