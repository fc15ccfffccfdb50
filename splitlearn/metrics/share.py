"""Ratios of integer counts, exact at any precision of the Trainer."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Quotient(Metric):
    """Quotient of two integer counts, summed over batches and processes."""

    full_state_update = False
    counted: Tensor
    cases: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("counted", "cases"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the quotient as a float64 scalar."""
        return ratio(self.counted, self.cases)


class Share(Quotient):
    """Share of cases with a property, 0…1; counted as integers, since bfloat16 cannot count beyond 256."""

    def update(self, has_property: Tensor) -> None:
        """Count a batch of cases, bool `(B,)`."""
        self.counted += has_property.sum().to(self.counted.device)
        self.cases += has_property.numel()


def ratio(count: Tensor, cases: Tensor) -> Tensor:
    """Return the ratio of two integers as a float64 scalar, on the CPU since not every device has float64."""
    return count.cpu().double() / cases.cpu()
