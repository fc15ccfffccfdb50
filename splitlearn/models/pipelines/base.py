"""Base class of all compression models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from splitlearn.models.coder import FeatureCoder
from splitlearn.models.complexity import Complexity
from splitlearn.outputs import SplitOutput

if TYPE_CHECKING:
    from splitlearn.models.pipelines.device_steps import HeadStep


class CompressionModel(nn.Module, ABC):
    """Base class: a network with a payload of bytes between device and edge server.

    Images are float `(B, C, H, W)` with the network's number of channels, usually 3. Pictures lie in [0, 1];
    normalization is part of the model. `run` is differentiable and makes no bytes. `compress` is the device and
    `decompress` the edge server; only payloads pass between them.

    Attributes:
        exits_early: whether the device may classify an image by itself; the payload of such an image is empty.
        coder: the feature coder; None if images cross as files, or if there are several coders.
    """

    exits_early: ClassVar[bool] = False
    coder: FeatureCoder | None

    def __init__(self) -> None:
        super().__init__()
        self.coder = None

    @property
    def table_bytes(self) -> int | None:
        """Size in bytes of code tables and calibrated levels, sent once; None without a coder."""
        return None

    def complexity(self) -> Complexity | None:
        """Return the cost of the bottlenecks per image; None without a coder."""
        return None

    def device_steps(self) -> list[HeadStep]:
        """Return the modules that a device runs, in order, for export; empty if the model has no device package.

        The first module gets images in [0, 1], each other the tensors of the previous one; the last returns crossing
        tensors.
        """
        return []

    def draw_rate(self) -> float:
        """Draw the rate of the next training batch, and return a factor of the task's rate weight: 1 with one rate."""
        return 1.0

    def reset_rate(self) -> float:
        """Return from drawn rates to the model's own, for validation, and return its factor: 1 with one rate."""
        return 1.0

    @abstractmethod
    def run(self, images: Tensor) -> SplitOutput:
        """Return the differentiable pass: prediction, features, latents and reconstructions."""

    def forward(self, images: Tensor) -> Any:
        """Return the prediction of `run`."""
        return self.run(images).prediction

    @abstractmethod
    def compress(self, images: Tensor | Sequence[Tensor]) -> list[bytes]:
        """Return one payload per image: all data that the edge server receives.

        The same images give the same bytes on the same machine. The batch size affects the network's rounding in the
        last bit, and a payload may show it; images of a list are compressed one by one, independently of each other.

        Args:
            images: a batch, or a list of images `(C, H, W)`: of one size, or of any sizes for torchvision detectors.

        Raises:
            ValueError: if these are not valid images; the message names the remedy.
        """

    def check_lossless(self, images: Tensor | Sequence[Tensor]) -> None:
        """Raise CodecError if a codec does not decode its own payload of these images to the same symbols."""

    @abstractmethod
    def decompress(self, payloads: Sequence[bytes]) -> Any:
        """Return the prediction for a batch of payloads.

        Raises:
            CodecError: if a payload is damaged or was written by another codec.
        """
