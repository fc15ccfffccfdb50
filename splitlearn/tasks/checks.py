"""Checks of tasks: weights of losses, numbers of classes, and targets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from splitlearn.outputs import Boxes


def check_weights(**weights: float) -> None:
    """Check the weights of parts of a loss, by name; raises ValueError if one is negative or not finite."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {weight}")


def check_data(num_classes: int, data: object) -> None:
    """Raise ValueError if the number of classes of a task differs from that of its data, if they have one."""
    found = getattr(data, "num_classes", None)
    if isinstance(found, int) and found != num_classes:
        names = ", ".join(map(str, getattr(data, "class_names", ())[:3]))
        raise ValueError(
            f"num_classes is {num_classes}, and {type(data).__name__} has {found} ({names}{', …' * (found > 3)}): "
            "the classes of network and data must be the same"
        )


def check_classes(targets: Any, num_classes: int) -> None:
    """Check that the targets of a batch are one class per image.

    Raises ValueError if they have another form, or a label is out of range.
    """
    if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
        form = (
            f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else f"a {type(targets).__name__}"
        )
        raise ValueError(
            f"this task needs one class per image, int64 (B,), and the data have {form} per batch: use other data, or "
            "the task for these"
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
    """Check the classes of objects in the ground truth of each image; `num_classes` is without background.

    Raises ValueError if these are no boxes, or a class is out of range.
    """
    if isinstance(truth, Tensor) or not all(isinstance(boxes, Boxes) for boxes in truth):
        raise ValueError("this task needs boxes for each image, and the data have none: use CocoDetection, for example")
    for boxes in truth:
        if len(boxes) and int(boxes.labels.min()) < 0:
            raise ValueError(f"an image has an object of class {int(boxes.labels.min())}: classes begin with 0")
        if len(boxes) and (largest := int(boxes.labels.max())) >= num_classes:
            raise ValueError(
                f"an image has an object of class {largest}, but num_classes is {num_classes}: "
                "the classes of network and data must be the same"
            )
