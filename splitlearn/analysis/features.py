"""Features at the cut of a model, gathered over images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlearn.analysis.distribution import check_rows
from splitlearn.models import CoderModel


@dataclass(frozen=True)
class CutFeatures:
    """The crossing tensors of some images.

    Attributes:
        crossing: all crossing tensors `(B, …)`, the outputs of the head.
        symbols: for each float tensor, the uint8 symbols of its latent; without a bottleneck, the latent is the tensor
            itself.
        labels: int64 class of each image `(B,)`; None if the images have no class labels.
    """

    crossing: tuple[Tensor, ...]
    symbols: tuple[Tensor, ...]
    labels: Tensor | None

    @property
    def floats(self) -> tuple[Tensor, ...]:
        """The crossing float tensors, which are analyzed."""
        return tuple(t for t in self.crossing if t.is_floating_point())


@torch.no_grad()
def cut_features(model: CoderModel, batches: Iterable[Any], images: int) -> CutFeatures:
    """Run the head on images and keep its outputs on the CPU.

    Args:
        model: the model, in eval mode.
        batches: tuples (images in [0, 1], labels, …); further items are ignored.
        images: largest number of images.

    Raises:
        ValueError: if there are no images, or a feature is NaN or infinite.
    """
    parts: list[tuple[Tensor, ...]] = []
    symbols: list[list[Tensor]] = []
    labels: list[Tensor | None] = []
    seen = 0
    for pictures, targets, *_ in batches:
        batch = pictures[: images - seen]
        crossing = model.features(batch)
        for tensor in crossing:
            check_rows(tensor, seen)
        parts.append(tuple(t.cpu() for t in crossing))
        symbols.append([s.cpu() for s in model.coder.symbols(model.coder.latents(crossing))])
        is_class = isinstance(targets, Tensor) and targets.ndim == 1 and len(targets) == len(pictures)
        labels.append(targets[: len(batch)].cpu() if is_class else None)
        seen += len(batch)
        if seen >= images:
            break
    if not seen:
        raise ValueError("there are no images to analyse: the test set is empty")
    classes = [label for label in labels if label is not None]
    return CutFeatures(
        crossing=tuple(map(torch.cat, zip(*parts, strict=True))),
        symbols=tuple(map(torch.cat, zip(*symbols, strict=True))),
        labels=torch.cat(classes) if len(classes) == len(labels) else None,
    )
