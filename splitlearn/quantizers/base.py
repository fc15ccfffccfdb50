"""The contract of a quantizer: floats to symbols and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import Grid
from splitlearn.uncast import Uncast


class Quantizer(Uncast, ABC):
    """Maps a float latent to symbols 0…levels−1, image by image, and back.

    `forward` is the differentiable round trip used in training; `quantize` and `dequantize` are what test time runs.
    All three agree bit for bit: `forward(y) == dequantize(*quantize(y))` for float32 `y`; for other types, rounded to
    them. Levels, limits and learnt steps stay as they are when the model is cast to another precision (`Uncast`):
    equal latents have equal symbols on both sides, whatever either computes with.

    Attributes:
        levels: size of the symbol alphabet, 2…256.
        floats_per_image: how many float32 values travel with the symbols of one image.
        grid: the same quantizer for numpy arrays, bit for bit; None if its levels are not even.
    """

    levels: int
    floats_per_image: int
    grid: Grid | None = None

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
        """Return the quantized latent in float32 with a straight-through gradient, shaped like `latent`."""


def straight_through(latent: Tensor, latent_hat: Tensor) -> Tensor:
    """Return `latent_hat`, bit for bit, with the gradient of the identity to `latent`.

    What is added to `latent_hat` is an exact zero; `latent + (latent_hat − latent)` would round. Where the latent is
    not finite the zero is NaN, and so is the result. Negative zeros become positive, as symbols restore them.

    Args:
        latent: input of the quantizer.
        latent_hat: its float32 reconstruction, without gradient.
    """
    wide = latent.float()
    return latent_hat + (wide - wide.detach())


def as_single(latent: Tensor) -> Tensor:
    """Return a latent in float32 without gradient: what symbols are made of, whatever type the network computes in.

    Raises:
        ValueError: if it holds NaN or infinity, of which no symbol can be made, or values that are infinite in float32.
    """
    single = latent.detach().float()
    check_finite(single)
    return single


def check_finite(values: Tensor) -> None:
    """Raise ValueError if `values` holds NaN or infinity, or nothing at all: no symbol stands for them."""
    if values.is_meta:
        raise ValueError("the latent is on the device 'meta' and holds no values: move the model to a real device")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the latent holds NaN or infinity and cannot be quantized")
