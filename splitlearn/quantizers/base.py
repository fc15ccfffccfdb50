"""Base class of quantizers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from splitlearn.kept_dtypes import Uncast
from splitlearn.numpy_quantizers import Grid


class Quantizer(Uncast, ABC):
    """Base class: maps float latents to symbols 0…levels−1, image by image, and back.

    `forward` is the differentiable round trip used in training; `quantize` and `dequantize` are used in testing. They
    agree bit for bit for a float32 `y`: `forward(y) == dequantize(*quantize(y))`; for other types, after rounding to
    that type. Levels, limits and learnt steps keep their precision when the model is cast (`Uncast`), so that equal
    latents have equal symbols on both sides.

    Attributes:
        levels: size of the symbol alphabet, 2…256.
        floats_per_image: number of float32 values that are sent with the symbols of one image.
        grid: the bit-identical quantizer for numpy arrays; None if there is none.
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
        """Return the float32 latent of these symbols, shaped like `symbols`."""

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32, shaped like `latent`, with the gradient of the identity.

        NaN and infinity, or in `MinMax` an image that holds one, become NaN, so that a diverged training shows in its
        loss.
        """


def straight_through(latent: Tensor, latent_hat: Tensor) -> Tensor:
    """Return `latent_hat`, bit for bit, and pass the gradient unchanged to `latent`.

    Adds an exact zero to `latent_hat`, since `latent + (latent_hat − latent)` would round. Where the latent is not
    finite, the result is NaN. Negative zeros become positive, as in values restored from symbols.

    Args:
        latent: input of the quantizer.
        latent_hat: its float32 reconstruction, without gradient.
    """
    wide = latent.float()
    return latent_hat + (wide - wide.detach())


def as_single(latent: Tensor) -> Tensor:
    """Return a latent of any float type in float32 without gradient, the input of quantization.

    Raises ValueError if it holds NaN or infinity, or values that are infinite in float32.
    """
    single = latent.detach().float()
    check_finite(single)
    return single


def check_finite(values: Tensor) -> None:
    """Raise ValueError if `values` holds NaN or infinity, or is on the device "meta"."""
    if values.is_meta:
        raise ValueError("the latent is on the device 'meta' and holds no values: move the model to a real device")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the latent holds NaN or infinity and cannot be quantized")
