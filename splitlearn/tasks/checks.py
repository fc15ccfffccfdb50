"""What tasks refuse before it does harm: weights of losses and classes of objects that cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable

from splitlearn.outputs import Boxes


def check_weights(**weights: float) -> None:
    """Refuse weights of parts of a loss that are negative or no number; the sentence calls them by their names.

    Raises:
        ValueError: if there are such.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be a number from 0 on, got {weight}")


def check_labels(truth: Iterable[Boxes], num_classes: int) -> None:
    """Refuse objects that no class of the network stands for.

    Args:
        truth: the objects of each image.
        num_classes: number of classes, without background.

    Raises:
        ValueError: if there are such.
    """
    for boxes in truth:
        if len(boxes) and (largest := int(boxes.labels.max())) >= num_classes:
            raise ValueError(
                f"an image has an object of class {largest}, but num_classes is {num_classes}: "
                "the classes of network and data must be the same"
            )
