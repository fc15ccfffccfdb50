"""Shares computed from integer counts, exact at any precision of the Trainer."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Share(Metric):
    """Share of cases with a property; as integers, since bfloat16 counts no further than 256."""

    full_state_update = False
    so: Tensor
    cases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("so", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("cases", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, so: Tensor) -> None:
        """Count a batch of cases, bool `(B,)`."""
        self.so += so.sum().to(self.so.device)
        self.cases += so.numel()

    def compute(self) -> Tensor:
        """Return the share, 0…1."""
        return ratio(self.so, self.cases)


def ratio(count: Tensor, cases: Tensor) -> Tensor:
    """Return the ratio of two whole numbers as a float64 scalar on the CPU, as not every device has float64."""
    return count.cpu().double() / cases.cpu()
