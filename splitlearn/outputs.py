"""Small frozen records that are shared by all packages. This module imports nothing of splitlearn."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IGNORED = 255
"""Mask value of ignored pixels: object borders in VOC, and padding of images."""
MOST_CLASSES = 500_000
"""Largest number of classes, because metrics allocate several counts per class."""
MAX_PIXELS = 1 << 24
"""Largest number of pixels of an image whose size is in a payload: 4096 × 4096."""
BEYOND = 0.25
"""Tolerance of picture values outside 0…1: more than resampling causes, less than normalization."""


@dataclass(frozen=True)
class SplitOutput:
    """Results of one differentiable pass through a split network, for losses and metrics.

    Attributes:
        prediction: the model's output, computed from `features_hat` alone.
        features: the features of the network's own head, each `(B, …)`.
        latents: the encoder's outputs before quantization, one per crossing float tensor.
        features_hat: the reconstructions, input of the tail, shaped like `features`.
    """

    prediction: Any
    features: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    features_hat: tuple[Tensor, ...]


@dataclass(frozen=True)
class ExitOutput(SplitOutput):
    """Results of one differentiable pass through a network with early exits.

    Attributes:
        exits: logits `(B, num_classes)` of each early exit, in order of execution; those of the final exit are
            `prediction`.
    """

    exits: tuple[Tensor, ...]


@dataclass(frozen=True)
class Decisions:
    """Exit decisions of a device for a batch of images, and the features of the images to send.

    Attributes:
        logits: `(B, num_classes)` of each image's exit; NaN for images to send, whose logits are not yet known.
        exits: int64 `(B,)`, number of each image's exit, from 0; the number of exits for images to send.
        sent: bool `(B,)`, whether an image is sent.
        features: crossing tensors of the images to send, in order, each `(sent.sum(), …)`; empty if there are none.
    """

    logits: Tensor
    exits: Tensor
    sent: Tensor
    features: tuple[Tensor, ...]

    def completed(self, final: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of all images, given the final logits of the sent ones."""
        return self.logits.index_put((self.sent.nonzero()[:, 0],), final.to(self.logits.dtype))


@dataclass(frozen=True)
class Features:
    """Cached features of a frozen head, in place of a batch of images.

    Attributes:
        tensors: the crossing tensors, each `(B, …)`.
        pixels: height × width of each image.
    """

    tensors: tuple[Tensor, ...]
    pixels: int

    def __len__(self) -> int:
        return len(self.tensors[0])


@dataclass(frozen=True)
class Frames:
    """Which frames of a video a batch holds, in place of labels.

    Attributes:
        video: path of the video, relative to the folder of all.
        first: number of the first frame of the batch, from 0, among those that are taken of this video.
        seconds: how long each frame is shown.
    """

    video: str
    first: int
    seconds: tuple[float, ...]

    def to(self, device: torch.device | str) -> Frames:
        """Return these frames, which lie on no device; Lightning does not move frozen dataclasses."""
        return self


def pixels_of(images: Tensor | Sequence[Tensor] | Features) -> int:
    """Return the number of pixels of a batch `(B, C, H, W)`, a list of images, or the images of cached features."""
    if isinstance(images, Features):
        return len(images) * images.pixels
    if isinstance(images, Sequence):
        return sum(image.shape[-2] * image.shape[-1] for image in images)
    return images.shape[0] * images.shape[-2] * images.shape[-1]


@dataclass(frozen=True)
class Boxes:
    """The objects of one image: ground truth or predictions.

    Attributes:
        xyxy: float32 `(N, 4)`: left, top, right and bottom, in pixels of the network's input.
        labels: int64 `(N,)`, class of each object.
        scores: float32 `(N,)` in [0, 1], confidence of the detector; None for ground truth.
        crowd: bool `(N,)`, whether a box is a crowd without individual annotations, which metrics ignore; None if there
            is none.
        masks: bool `(N, H, W)`, the pixels of each object, of the image's size; None if not known.
    """

    xyxy: Tensor
    labels: Tensor
    scores: Tensor | None = None
    crowd: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Boxes:
        """Return these boxes on a device; needed by Lightning, which does not move frozen dataclasses."""
        optional = (None if t is None else t.to(device) for t in (self.scores, self.crowd, self.masks))
        return Boxes(self.xyxy.to(device), self.labels.to(device), *optional)


def check_num_classes(num_classes: int, least: int = 1) -> None:
    """Raise ValueError unless a number of classes is in `least`…`MOST_CLASSES`."""
    if num_classes > MOST_CLASSES:
        raise ValueError(f"num_classes must be at most {MOST_CLASSES:,}, got {num_classes:,}: give that of the data")
    if num_classes < least:
        raise ValueError(f"num_classes must be at least {least}, got {num_classes}: give that of the data")


def too_many_pixels(height: int, width: int, max_pixels: int) -> str:
    """Return the error message for an image with too many pixels."""
    return f"an image of {height}×{width} pixels is larger than {max_pixels:,} in all: set max_pixels higher"


def init_args(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of `instance`, from its attributes of the same names.

    Exports store class and arguments of an object, so a class that can be exported keeps each constructor argument as
    an attribute. Raises AttributeError if an argument has no attribute; the message names it.
    """
    kind: type = type(instance)
    return {name: getattr(instance, name) for name in argument_names(kind)}


@cache
def argument_names(kind: type) -> tuple[str, ...]:
    """Return the names of a class's constructor arguments."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
