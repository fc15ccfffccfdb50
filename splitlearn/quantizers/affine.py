"""Linear quantization with a fixed scale and zero point, as in INT8 networks."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import AffineGrid
from splitlearn.quantizers.base import Quantizer, as_single, check_finite, straight_through


class Affine(Quantizer):
    """Represents (s − zero_point) · scale by symbol s, like the activations of a network in INT8.

    The scale and the zero point come from calibration and are sent once with the weights, not with each image. Values
    beyond the levels saturate. Symbols equal those of `torch.quantize_per_tensor` with `quint8`.

    The gradient is that of the identity, also for saturated values. Under autocast, all is computed in float32.

    Args:
        scale: distance between levels; positive, in the unit of the latent.
        zero_point: symbol of the value 0.
        levels: size of the symbol alphabet, 2…256.

    Raises:
        ValueError: if the scale is not positive, 256 · scale exceeds the range of float32, `zero_point` is no symbol,
            or `levels` is out of range.

    Reference: Beysens et al. 2023, Sec. III-C.
    """

    floats_per_image = 0

    def __init__(self, scale: float = 1.0, zero_point: int = 0, levels: int = 256) -> None:
        super().__init__()
        self.grid = AffineGrid(float(scale), zero_point, levels)
        self.scale, self.zero_point, self.levels = self.grid.scale, self.grid.zero_point, self.grid.levels

    @classmethod
    def calibrated(cls, latent: Tensor, levels: int = 256) -> Affine:
        """Return the quantizer whose levels span the values of `latent`, and zero.

        Zero is a level, so zeros of a ReLU stay exactly zero.

        Raises:
            ValueError: if the latent holds NaN or infinity, or only zeros, or `levels` is out of range.
        """
        check_finite(latent)
        cls(levels=levels)  # refuses impossible levels before the division
        lo, hi = (min(0.0, float(latent.min())), max(0.0, float(latent.max()))) if latent.numel() else (0.0, 0.0)
        if lo == hi:
            raise ValueError("the latent holds only zeros, which determine no scale: calibrate with other images")
        scale = (hi - lo) / (levels - 1)
        return cls(scale, min(levels - 1, round(-lo / scale)), levels)

    def _round(self, latent: Tensor) -> Tensor:
        """Return the saturated integers s − zero_point as float32."""
        factor = 1 / torch.tensor(self.scale, dtype=torch.float32, device=latent.device)
        return torch.round(latent * factor).clamp(-self.zero_point, self.levels - 1 - self.zero_point)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and an empty `(B, 0)` tensor."""
        q = self._round(as_single(latent))
        return (q + self.zero_point).to(torch.uint8), q.new_zeros(len(latent), 0)

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return (s − zero_point) · scale as float32, shaped like `symbols`; `floats` is empty."""
        return (symbols.to(torch.int16) - self.zero_point).float() * self.scale

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32, shaped like `latent`, with the gradient of the identity."""
        return straight_through(latent, self._round(latent.detach().float()) * self.scale)

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"scale={self.scale}, zero_point={self.zero_point}, levels={self.levels}"
