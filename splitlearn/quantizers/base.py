"""The contract of a quantizer: floats to symbols and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """Maps a float latent to symbols 0…levels−1, image by image, and back.

    `forward` is the differentiable round trip used in training; `quantize` and `dequantize` are what test time runs. All
    three agree bit for bit: `forward(y) == dequantize(*quantize(y))`.

    Attributes:
        levels: size of the symbol alphabet, 2…256.
        floats_per_image: how many float32 values travel with the symbols of one image.
    """

    levels: int
    floats_per_image: int

    @abstractmethod
    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the symbols of a batch and the floats that `dequantize` needs.

        Args:
            latent: float tensor `(B, …)`; each image is quantized by itself.

        Returns:
            uint8 symbols shaped like `latent`, and float32 side information `(B, floats_per_image)`.

        Raises:
            ValueError: if the latent holds NaN or infinity.
        """

    @abstractmethod
    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return the float32 latent that these symbols stand for, shaped like `symbols`."""

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent with a straight-through gradient, shaped and typed like `latent`."""
