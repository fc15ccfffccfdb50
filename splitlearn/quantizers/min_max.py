"""Linear quantization between the extremes of each image, without training or calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import TINY, MinMaxGrid
from splitlearn.quantizers.base import Quantizer, check_finite, straight_through


class MinMax(Quantizer):
    """Spreads 2^bits levels evenly from the smallest to the largest value of each image.

    After ReLU, the smallest value is 0 and has symbol 0, which run-length coding exploits.

    Values are restored from a table of `levels` entries for each image, computed in float64 and rounded once. The
    result is the same, bit for bit, on every machine, with or without fused multiplication and addition. An image of
    one repeated value is restored exactly, the extremes of any image to within one rounding. Ranges beyond float32 are
    computed in halves, so extreme values do not overflow.

    The gradient is that of the identity. Under autocast, all is computed in float32.

    Args:
        bits: n, bits per symbol, 2…8.

    Raises:
        ValueError: if `bits` is not in 2…8.

    Reference: Carra & Neglia 2023, Sec. V.
    """

    floats_per_image = 2

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.grid = MinMaxGrid(bits)
        self.bits = self.grid.bits
        self.levels = self.grid.levels

    def _round(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return symbols as float32 `(B, N)`, 0 for NaN, and the extremes `(B, 2)`."""
        flat = latent.detach().float().flatten(1)
        if flat.shape[1] == 0:
            return flat, flat.new_zeros(len(flat), 2)
        floats = torch.stack(torch.aminmax(flat, dim=1), dim=1) + 0.0  # a negative zero becomes positive
        finite = floats.nan_to_num(0.0)
        lo, hi = finite[:, :1], finite[:, 1:]
        # scaled by a power of two to 1…2, so that neither the range nor its inverse leaves float32
        exponent = torch.frexp((hi / 2 - lo / 2).clamp(min=TINY)).exponent.clamp(max=126)
        scale = torch.ldexp(torch.ones_like(lo), -exponent)
        offset = lo * scale
        span = hi * scale - offset
        factor = ((self.levels - 1) / span).masked_fill(span <= 0, 0.0)  # constant images: all symbols are 0
        symbols = torch.round((flat * scale - offset) * factor).clamp(0, self.levels - 1).nan_to_num(0.0)
        return symbols, floats

    def _restore(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return the values of flat symbols `(B, N)`, in training as in testing."""
        lo, hi = floats.cpu().double().unbind(1)  # not every device has float64, and the table is tiny
        steps = torch.arange(self.levels, dtype=torch.float64, device=lo.device)
        table = (lo[:, None] + steps * ((hi - lo) / (self.levels - 1))[:, None]).float().to(symbols.device)
        return table.gather(1, symbols.long())

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and the extremes (lo, hi) of each image, float32 `(B, 2)`."""
        symbols, floats = self._round(latent)
        check_finite(floats)
        return symbols.to(torch.uint8).reshape(latent.shape), floats

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return the float32 values of `symbols`, shaped like them, given the extremes `(B, 2)`."""
        return self._restore(symbols.flatten(1), floats).reshape(symbols.shape)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32, shaped like `latent`, with the gradient of the identity."""
        return straight_through(latent, self._restore(*self._round(latent)).reshape(latent.shape))

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"bits={self.bits}"
