"""What tasks refuse before it does harm: weights of losses and classes of objects that cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from splitlearn.outputs import Boxes


def check_weights(**weights: float) -> None:
    """Refuse weights of parts of a loss that are negative or no number; the sentence calls them by their names.

    Raises:
        ValueError: if there are such.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be a number from 0 on, got {weight}")


def check_data(num_classes: int, data: object) -> None:
    """Refuse data that have another number of classes than a task.

    Args:
        num_classes: of the task.
        data: data module, or anything else; what tells no `num_classes` passes.

    Raises:
        ValueError: if the numbers differ.
    """
    found = getattr(data, "num_classes", None)
    if isinstance(found, int) and found != num_classes:
        names = ", ".join(map(str, getattr(data, "class_names", ())[:3]))
        raise ValueError(
            f"num_classes is {num_classes}, and {type(data).__name__} has {found} ({names}{', …' * (found > 3)}): "
            "the classes of network and data must be the same"
        )


def check_classes(targets: Any, num_classes: int) -> None:
    """Refuse targets that are not one class an image, or of which no class stands for some.

    Args:
        targets: of a batch.
        num_classes: number of classes.

    Raises:
        ValueError: if there are such.
    """
    if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
        form = (
            f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else f"a {type(targets).__name__}"
        )
        raise ValueError(
            f"this task takes a class an image, int64 (B,), and the data bring {form} a batch: take other data, or the "
            "task for these"
        )
    if not targets.numel():
        return
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"an image has the label {low if low < 0 else high}, but num_classes is {num_classes}: "
            "the classes of network and data must be the same"
        )


def check_labels(truth: Iterable[Boxes], num_classes: int) -> None:
    """Refuse objects that no class of the network stands for.

    Args:
        truth: the objects of each image.
        num_classes: number of classes, without background.

    Raises:
        ValueError: if there are such.
    """
    if isinstance(truth, Tensor) or not all(isinstance(boxes, Boxes) for boxes in truth):
        raise ValueError("this task takes boxes, one record an image, and the data bring none: take CocoDetection, say")
    for boxes in truth:
        if len(boxes) and int(boxes.labels.min()) < 0:
            raise ValueError(f"an image has an object of class {int(boxes.labels.min())}: classes begin with 0")
        if len(boxes) and (largest := int(boxes.labels.max())) >= num_classes:
            raise ValueError(
                f"an image has an object of class {largest}, but num_classes is {num_classes}: "
                "the classes of network and data must be the same"
            )
