"""What every network with bytes in its middle can do, whatever crosses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from splitlearn.models.coder import FeatureCoder
from splitlearn.models.complexity import Complexity
from splitlearn.outputs import SplitOutput


class CompressionModel(nn.Module, ABC):
    """A network whose input reaches its last layers as bytes.

    Images are float `(B, C, H, W)` with the channels that the network takes, 3 mostly; pictures lie in [0, 1], and
    normalization belongs to the model. `run` is differentiable and counts no
    bytes; `compress` and `decompress` are the device and the edge server, between which only payloads pass.

    Attributes:
        settles_early: whether the device may settle an image by itself, whose payload is then empty and tells nothing.
        coder: what stands between the tensors that cross and the payload; None if no tensors cross, or if there are
            several coders to choose from.
    """

    settles_early: ClassVar[bool] = False
    coder: FeatureCoder | None

    def __init__(self) -> None:
        super().__init__()
        self.coder = None

    @property
    def table_bytes(self) -> int | None:
        """Size of what both sides must share beside weights, sent once: tables and levels; None without a coder."""
        return None

    def complexity(self) -> Complexity | None:
        """Return what bottlenecks add to the network, for one image; None without a coder."""
        return None

    @abstractmethod
    def run(self, images: Tensor) -> SplitOutput:
        """Return the differentiable pass: prediction, features, latents and reconstructions."""

    def forward(self, images: Tensor) -> Any:
        """Return the prediction of `run`."""
        return self.run(images).prediction

    @abstractmethod
    def compress(self, images: Tensor | Sequence[Tensor]) -> list[bytes]:
        """Return one payload an image: everything that the edge server gets.

        The same images give the same bytes again on the same machine. In a batch of another size the network's sums may
        be rounded otherwise in the last bit, which payloads may show; images of a list are coded one by one, each as
        if it were alone.

        Args:
            images: a batch, or a list of images `(3, H, W)`: of one size, or of any if the network is a detector of
                torchvision's.

        Raises:
            ValueError: if these are no images as said above; the message says what to do.
        """

    def check_lossless(self, images: Tensor | Sequence[Tensor]) -> None:
        """Refuse codecs of symbols that give back others than they were given, on a batch of images.

        Raises:
            CodecError: if one does.
        """

    @abstractmethod
    def decompress(self, payloads: Sequence[bytes]) -> Any:
        """Return the prediction for a batch of payloads.

        Raises:
            CodecError: if a payload is damaged or was written by another codec.
        """


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Args:
        mean: one value a channel, for images in [0, 1].
        std: one value a channel.
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
            ValueError: if the images have other channels, which would be spread over all of these without a word.
        """
        channels = len(self.mean)
        if images.ndim < 3 or channels not in (1, images.shape[-3]):
            raise ValueError(
                f"the images are of shape {tuple(images.shape)}, and normalize has means of {channels} channels: give "
                f"images of {channels} channels"
            )
        return (images - self.mean) / self.std
