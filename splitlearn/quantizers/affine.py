"""Linear quantization with a scale and a zero point fixed beforehand, as INT8 networks have them."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import AffineGrid
from splitlearn.quantizers.base import Quantizer, as_single, check_finite, straight_through


class Affine(Quantizer):
    """Symbol s stands for (s − zero_point) · scale: the activations of a network that was quantized to INT8.

    The scale and the zero point come from calibration and travel with the weights, not with the image. Values beyond
    the levels saturate. Symbols equal those of `torch.quantize_per_tensor` with `quint8`.

    The gradient is that of the identity, also where values saturate. Under autocast everything is computed in float32.

    Args:
        scale: distance of two levels; positive, in the unit of the latent.
        zero_point: symbol that stands for 0.
        levels: size of the symbol alphabet, 2…256.

    Raises:
        ValueError: if the scale is not positive, 256 of it pass the range of float32, `zero_point` is no symbol, or
            `levels` is out of range.

    Reference: Beysens et al. 2023, Sec. III-C.
    """

    floats_per_image = 0

    def __init__(self, scale: float = 1.0, zero_point: int = 0, levels: int = 256) -> None:
        super().__init__()
        self.grid = AffineGrid(float(scale), zero_point, levels)
        self.scale, self.zero_point, self.levels = self.grid.scale, self.grid.zero_point, self.grid.levels

    @classmethod
    def calibrated(cls, latent: Tensor, levels: int = 256) -> Affine:
        """Return the quantizer whose levels reach from the smallest to the largest value of `latent`, and to zero.

        Zero is a level, so what ReLU has cut off stays exactly zero.

        Raises:
            ValueError: if the latent holds NaN or infinity, or no value but zero, or `levels` is out of range.
        """
        check_finite(latent)
        cls(levels=levels)  # to refuse impossible levels before they divide
        lo, hi = (min(0.0, float(latent.min())), max(0.0, float(latent.max()))) if latent.numel() else (0.0, 0.0)
        if lo == hi:
            raise ValueError("the latent holds no value but zero, which fixes no scale")
        scale = (hi - lo) / (levels - 1)
        return cls(scale, min(levels - 1, round(-lo / scale)), levels)

    def _round(self, latent: Tensor) -> Tensor:
        """Return the saturated integers s − zero_point as float32."""
        factor = 1 / torch.tensor(self.scale, dtype=torch.float32, device=latent.device)
        return torch.round(latent * factor).clamp(-self.zero_point, self.levels - 1 - self.zero_point)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and an empty `(B, 0)` tensor.

        Raises:
            ValueError: if the latent holds NaN or infinity.
        """
        q = self._round(as_single(latent))
        return (q + self.zero_point).to(torch.uint8), q.new_zeros(len(latent), 0)

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return (s − zero_point) · scale as float32, shaped like `symbols`; `floats` is empty."""
        return (symbols.to(torch.int16) - self.zero_point).float() * self.scale

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32 with the gradient of the identity, shaped like `latent`.

        NaN and infinity become NaN, so that a diverged training shows in its loss.
        """
        return straight_through(latent, self._round(latent.detach().float()) * self.scale)

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"scale={self.scale}, zero_point={self.zero_point}, levels={self.levels}"
