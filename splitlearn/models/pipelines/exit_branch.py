"""Classifier of an early exit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from splitlearn.models.bottlenecks.bottleneck import FeatureShape
from splitlearn.outputs import check_num_classes

KERNEL, STRIDE = 3, 2


class ExitBranch(nn.Module):
    """Average pooling of 3 × 3 at stride 2, and one linear layer.

        features (B, C, H, W) → (B, C, ⌊(H−1)/2⌋, ⌊(W−1)/2⌋) → logits (B, num_classes)

    Args:
        shape: `(C, H, W)` of the features at the exit.
        num_classes: number of classes.

    Raises:
        ValueError: if the features are not maps of at least 3 × 3, or `num_classes` is not positive.

    Reference:
        Beysens et al. 2023, Sec. III-B.
    """

    def __init__(self, shape: FeatureShape, num_classes: int) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < KERNEL:
            raise ValueError(
                f"an exit needs feature maps (C, H, W) of at least {KERNEL}×{KERNEL}, but features here are "
                f"{tuple(shape)}: attach it to an earlier module"
            )
        check_num_classes(num_classes)
        channels, height, width = shape
        self.shape, self.num_classes = tuple(shape), num_classes
        self.pool = nn.AvgPool2d(KERNEL, STRIDE)
        places = [(size - KERNEL) // STRIDE + 1 for size in (height, width)]
        self.linear = nn.Linear(channels * places[0] * places[1], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of features `(B, C, H, W)`."""
        logits: Tensor = self.linear(torch.flatten(self.pool(features), 1))
        return logits


BranchFactory = Callable[[FeatureShape, int], nn.Module]
"""Makes an exit's classifier from the shape of the features and the number of classes, as `ExitBranch` does."""
