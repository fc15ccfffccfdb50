"""Uniform quantization with a fixed step, for latents trained to be small."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import StepGrid
from splitlearn.quantizers.base import Quantizer, as_single, straight_through


class Step(Quantizer):
    """Rounds latent / step to the nearest integer q and restores q · step.

    Integers become symbols by zig-zag, 0, −1, 1, −2, 2, … → 0, 1, 2, 3, 4, …. Zero, the commonest value of a latent
    trained with a rate term, is symbol 0, and codes that favour small symbols favour small magnitudes. Integers outside
    −⌊levels/2⌋…⌊(levels−1)/2⌋ saturate, in `forward` too. Ties round to even.

    The gradient is that of the identity, also for saturated values. Under autocast, all is computed in float32.

    Args:
        step: Q, the distance between reconstructed values; positive, in the unit of the latent.
        levels: size of the symbol alphabet, 2…256.

    Raises:
        ValueError: if the step is not positive, 256 steps exceed the range of float32, or `levels` is out of range.

    Reference: Datta et al. 2022, Sec. II.
    """

    floats_per_image = 0

    def __init__(self, step: float = 1.0, levels: int = 256) -> None:
        super().__init__()
        self.grid = StepGrid(float(step), levels)
        self.step, self.levels = self.grid.step, self.grid.levels

    def _round(self, latent: Tensor) -> Tensor:
        """Return the saturated integers q as float32."""
        factor = 1 / torch.tensor(self.step, dtype=torch.float32, device=latent.device)  # devices divide differently
        return torch.round(latent * factor).clamp(-(self.levels // 2), (self.levels - 1) // 2)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and an empty `(B, 0)` tensor."""
        q = self._round(as_single(latent))
        symbols = (2 * q + 0.5).abs() - 0.5  # zig-zag: 2q for q ≥ 0, −2q − 1 below
        return symbols.to(torch.uint8), q.new_zeros(len(latent), 0)

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return q · step as float32, shaped like `symbols`; `floats` is empty."""
        s = symbols.to(torch.int16)
        return ((s >> 1) ^ -(s & 1)).float() * self.step

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32, shaped like `latent`, with the gradient of the identity."""
        return straight_through(latent, self._round(latent.detach().float()) * self.step)

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"step={self.step}, levels={self.levels}"
