"""Input images: checks before any computation, and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splitlearn.outputs import BEYOND

PICTURES = (1, 3)
"""Numbers of channels of pictures; values of other images need not lie in [0, 1]."""


def like(network: nn.Module) -> Tensor:
    """Return a tensor with the device and the floating-point dtype of a network."""
    return next((p for p in network.parameters() if p.is_floating_point()), torch.zeros((), dtype=torch.float32))


def typed(tensor: Tensor, network: nn.Module) -> Tensor:
    """Return a tensor in the dtype of a network's weights; integer tensors unchanged."""
    return tensor.to(like(network).dtype) if tensor.is_floating_point() else tensor


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation for each channel.

    Args:
        mean: one value per channel, for images in [0, 1].
        std: one value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalized images, shaped like `images`.

        Raises:
            ValueError: if the number of channels differs, which torch would silently broadcast.
        """
        channels = len(self.mean)
        if images.ndim < 3 or channels not in (1, images.shape[-3]):
            raise ValueError(
                f"the images are of shape {tuple(images.shape)}, and normalize has means of {channels} channels: give "
                f"images of {channels} channels"
            )
        return (images - self.mean) / self.std


def one_size(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return images as a batch; raise ValueError if there are none, or they differ in size."""
    if isinstance(images, Tensor):
        return images
    check_one_size(images)
    return torch.stack(list(images))


def check_one_size(images: Sequence[Tensor]) -> None:
    """Raise ValueError if there are no images, or they differ in size."""
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) != 1:
        raise ValueError(
            f"this network takes images of one size, these are of {', '.join(map(str, sizes)) or 'none'}: "
            "have the data bring them to one, or take them one at a time"
        )


def as_input(
    images: Tensor | Sequence[Tensor], weight: Tensor, shape: Sequence[int] | None = None, by_image: bool = False
) -> Any:
    """Return images on the device and in the dtype of a network, contiguous; values are not checked.

    The layout of images decides the last bit of sums of the first layers, and payloads are not to depend on it.

    Args:
        images: a batch `(B, C, H, W)`; of a detector also B images `(C, H, W)`.
        weight: tensor with the network's device and dtype, from `like`.
        shape: shape of one example image of the network, if known.
        by_image: whether the network is a torchvision detector.

    Raises:
        ValueError: if these are not float images, have the wrong number of channels, or a detector gets no images.
    """
    if by_image and isinstance(images, (Tensor, list, tuple)) and not len(images):
        raise ValueError("there are no images, and a detector needs one or more: leave empty batches out")
    if by_image and isinstance(images, (list, tuple)):
        return [as_input(_batch(image), weight, shape)[0] for image in images]
    check_form(images, shape)
    assert isinstance(images, Tensor)
    return images.to(weight).contiguous()


def device_batches(
    images: Tensor | Sequence[Tensor], shape: Sequence[int] | None = None, by_image: bool = False
) -> list[Tensor]:
    """Return images as the batches that a device compresses: a batch unchanged, a list as batches of one image.

    The batch size affects rounding in the last bit, and a payload may show it. Images of a list are therefore
    independent of each other.

    Args:
        images: a batch `(B, C, H, W)`, or B images `(C, H, W)`.
        shape: shape of one example image of the network, if known.
        by_image: whether images may have different sizes and are compressed one by one.

    Raises:
        ValueError: if these are not float images, have the wrong number of channels or several sizes, hold NaN or
            infinity, or are pictures with values outside [0, 1].
    """
    if not isinstance(images, (Tensor, list, tuple)):
        raise ValueError(f"images are a tensor (B, C, H, W) or a list of tensors (C, H, W), not {_kind(images)}")
    batches = [images] if isinstance(images, Tensor) else [_batch(image) for image in images]
    for batch in batches:
        check_form(batch, shape)
        check_values(batch)
    if isinstance(images, Tensor) and not by_image:
        return [images]
    if not isinstance(images, Tensor) and images and not by_image:
        check_one_size(images)
    return [image[None] for batch in batches for image in batch]


def check_form(images: Any, shape: Sequence[int] | None = None) -> None:
    """Raise ValueError unless `images` is a batch of float images with the network's number of channels."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images are a tensor (B, C, H, W) of floats in [0, 1], not {_kind(images)}")
    if not images.is_floating_point():
        raise ValueError(f"images are floats in [0, 1], not {images.dtype}: give pixels of 0…255 as images / 255")
    expected = 3 if shape is None else len(shape)
    found = tuple(images.shape)
    if images.dim() != expected + 1:
        raise ValueError(
            f"images are a batch of {expected + 1} dimensions, not {found}: give a single image as image[None]"
        )
    if expected != 3:
        return
    if shape is not None and found[1] != shape[0]:
        grey = f", and repeat grey ones by images.expand(-1, {shape[0]}, -1, -1)" if found[1] == 1 else ""
        raise ValueError(
            f"this network takes images (B, {shape[0]}, H, W), not {found}: put their channels second{grey}"
        )
    if 0 in found[1:]:
        raise ValueError(f"images have no pixels, their shape is {found}: leave empty ones out")


def check_values(images: Any) -> None:
    """Raise ValueError if images hold NaN or infinity, or pictures have values well outside [0, 1]."""
    if not isinstance(images, Tensor) or not images.is_floating_point() or not images.numel():
        return  # `check_form` reports these
    if images.is_meta:
        raise ValueError("images are on the device 'meta' and hold no values: move them to a real device")
    least, most = (float(end) for end in torch.aminmax(images.detach()))
    if not -float("inf") < least <= most < float("inf"):
        raise ValueError("images hold NaN or infinity: look for what has made them")
    if images.dim() == 4 and images.shape[1] in PICTURES and not -BEYOND <= least <= most <= 1 + BEYOND:
        raise ValueError(
            f"images lie in [0, 1], and these reach from {least:.3g} to {most:.3g}: divide pixels of 0…255 by 255, and "
            "leave normalization to the model"
        )


def _batch(image: Any) -> Any:
    return image[None] if isinstance(image, Tensor) else image


def _kind(images: Any) -> str:
    if isinstance(images, (list, tuple)):
        return f"a list of {_kind(images[0])}" if images else "an empty list"
    return f"a {type(images).__name__} object"
