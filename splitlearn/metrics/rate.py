"""Metrics of payload size, summed over batches and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from splitlearn.metrics.share import Quotient
from splitlearn.outputs import Features, pixels_of


class BytesPerImage(Quotient):
    """Mean payload size over all images, headers and tables included; an image that exited early counts as 0 bytes."""

    def update(self, payloads: Sequence[bytes]) -> None:
        """Count the payloads of a batch, one per image."""
        self.counted += sum(map(len, payloads))
        self.cases += len(payloads)


class BitsPerPixel(Quotient):
    """Payload bits divided by pixels of the network's input, over all images together.

    Reference:
        Datta et al. 2022, Sec. IV.
    """

    def update(self, payloads: Sequence[bytes], images: Tensor | Sequence[Tensor] | Features) -> None:
        """Count a batch: its payloads, and the network's input `(B, C, H, W)`, a list of images, or their features."""
        self.counted += 8 * sum(map(len, payloads))
        self.cases += pixels_of(images)


class EstimatedBits(Metric):
    """Estimated bits per image: order-0 entropy times number of symbols, the size under ideal memoryless codes.

    It excludes headers and tables; `BytesPerImage` is the measurement.

    Args:
        levels: size of the symbol alphabet of each tensor that crosses the cut.
        channels: number of separate symbol statistics per tensor: 1, or its number of channels.
    """

    full_state_update = False
    counts: Tensor
    images: Tensor

    def __init__(self, levels: Sequence[int], channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = list(channels) if channels is not None else [1] * len(levels)
        self.levels = list(levels)
        self.add_state("counts", torch.zeros(sum(self.channels), max(levels, default=1), dtype=torch.long), "sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, symbols: Sequence[Tensor]) -> None:
        """Count the uint8 symbols of a batch: one tensor `(B, …)` for each tensor that crosses the cut."""
        for rows, tensor in zip(torch.split(self.counts, self.channels), symbols, strict=True):
            codes, levels = rows.shape
            cells = tensor.reshape(len(tensor), codes, -1).int()
            cells = cells + levels * torch.arange(codes, device=tensor.device, dtype=torch.int32).view(1, -1, 1)
            rows += torch.bincount(cells.flatten(), minlength=rows.numel()).view_as(rows)
        self.images += len(symbols[0])

    def compute(self) -> Tensor:
        """Return the estimated bits per image."""
        counts = self.counts.cpu().double()  # not every device has float64
        totals = counts.sum(1, keepdim=True)
        probabilities = counts / totals.clamp(min=1)
        nats = -(torch.special.xlogy(probabilities, probabilities) * totals).sum()
        bits: Tensor = nats.abs() / math.log(2) / self.images.cpu()
        return bits  # 0, not −0, for a single symbol
