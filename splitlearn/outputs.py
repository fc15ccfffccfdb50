"""Small frozen records that cross rooms. This module imports nothing of splitlearn."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IGNORED = 255
"""What a mask holds where a pixel counts nowhere: along objects in VOC, where images are padded."""
BEYOND = 0.25
"""How far values of pictures may lie beyond 0…1: farther than resampling brings them, less far than normalization."""
MOST_CLASSES = 500_000
"""Scores hold a few counts for each class before the first image is seen."""
BEYOND = 0.25
"""How far values of pictures may lie beyond 0…1: farther than resampling brings them, less far than normalization."""


@dataclass(frozen=True)
class SplitOutput:
    """What one differentiable pass through a split network leaves behind, for losses and metrics.

    Attributes:
        prediction: the model's output, computed from `features_hat` alone.
        features: the crossing tensors as the frozen head made them, each `(B, …)`.
        latents: the encoder's outputs before quantization, one per float tensor that crosses.
        features_hat: the reconstructions that the tail was given, shaped like `features`.
    """

    prediction: Any
    features: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    features_hat: tuple[Tensor, ...]


@dataclass(frozen=True)
class ExitOutput(SplitOutput):
    """What one differentiable pass through a network with early exits leaves behind.

    Attributes:
        exits: logits `(B, num_classes)` of each early exit, in the order in which images come to them; those of the
            final exit are `prediction`.
    """

    exits: tuple[Tensor, ...]


@dataclass(frozen=True)
class Decisions:
    """What a device makes of a batch of images: who has left early, and what is left to be sent.

    Attributes:
        logits: `(B, num_classes)` of the exit that an image left through; those of images that go on are not yet known
            and NaN.
        exits: int64 `(B,)`, number of that exit, from 0; the number of exits for images that go on.
        sent: bool `(B,)`, which images go on.
        features: tensors that cross the cut, of these images alone and in their order, each `(sent.sum(), …)`; empty if
            there are none.
    """

    logits: Tensor
    exits: Tensor
    sent: Tensor
    features: tuple[Tensor, ...]

    def completed(self, final: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of all images, given those of the ones that went on."""
        return self.logits.index_put((self.sent.nonzero()[:, 0],), final.to(self.logits.dtype))


@dataclass(frozen=True)
class Features:
    """What a frozen head has made of a batch of images before, in their place.

    Attributes:
        tensors: the crossing tensors, each `(B, …)`.
        pixels: height × width of each image.
    """

    tensors: tuple[Tensor, ...]
    pixels: int

    def __len__(self) -> int:
        return len(self.tensors[0])


def pixels_of(images: Tensor | Sequence[Tensor] | Features) -> int:
    """Return how many pixels a batch `(B, C, H, W)` or a list of images has, or those that features were made of."""
    if isinstance(images, Features):
        return len(images) * images.pixels
    if isinstance(images, Sequence):
        return sum(image.shape[-2] * image.shape[-1] for image in images)
    return images.shape[0] * images.shape[-2] * images.shape[-1]


@dataclass(frozen=True)
class Boxes:
    """The objects of one image: those that are there, or those that a detector has found.

    Attributes:
        xyxy: float32 `(N, 4)`: left, top, right and bottom, in pixels of the network's input.
        labels: int64 `(N,)`, class of each object.
        scores: float32 `(N,)` in [0, 1], how sure the detector is; None for what is there.
        crowd: bool `(N,)`, whether a box holds a crowd that is not annotated one by one, which the metric neither asks
            for nor counts as wrong; None if there is none.
        masks: bool `(N, H, W)`, the pixels of each object, of the image's size; None if they are not known.
    """

    xyxy: Tensor
    labels: Tensor
    scores: Tensor | None = None
    crowd: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Boxes:
        """Return these boxes on a device. Lightning calls this: it moves no frozen dataclass by itself."""
        optional = (None if t is None else t.to(device) for t in (self.scores, self.crowd, self.masks))
        return Boxes(self.xyxy.to(device), self.labels.to(device), *optional)


def check_num_classes(num_classes: int, least: int = 1) -> None:
    """Refuse a number of classes that nothing can have.

    Raises:
        ValueError: if there are fewer than `least`, or so many that the counts of scores alone fill the memory.
    """
    if num_classes > MOST_CLASSES:
        raise ValueError(f"num_classes must be at most {MOST_CLASSES:,}, got {num_classes:,}: give that of the data")
    if num_classes < least:
        raise ValueError(f"num_classes must be at least {least}, got {num_classes}: give that of the data")


def init_args(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of `instance`, read from its attributes of the same names.

    Exports write an object's class and these arguments into their manifest, so a class that can be exported keeps each
    constructor argument under its own name.

    Raises:
        AttributeError: if an argument was not kept; the message names it.
    """
    parameters = list(inspect.signature(type(instance).__init__).parameters.values())[1:]
    return {p.name: getattr(instance, p.name) for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
