"""Statistics of latents for calibration: a histogram and moments for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BINS = 2048
PART = 1 << 20  # values counted at a time: counting needs memory of many times their size


@dataclass(frozen=True)
class LatentStatistics:
    """Histogram and moments of latents: one row for each of R channels, or R = 1 row for all channels together.

    Attributes:
        centres: mean of the values in each bin, float64 `(R, bins)`, ascending.
        counts: number of values in each bin, float64 `(R, bins)`.
        minimum: smallest value, float64 `(R,)`.
        maximum: largest value, float64 `(R,)`.
        mean: float64 `(R,)`, exact.
        mean_square: float64 `(R,)`, exact.
        variance: float64 `(R,)`, exact; 0 for a row of one repeated value.
    """

    centres: Tensor
    counts: Tensor
    minimum: Tensor
    maximum: Tensor
    mean: Tensor
    mean_square: Tensor
    variance: Tensor

    @classmethod
    def of(cls, latents: Tensor, per_channel: bool = False) -> Self:
        """Return the statistics of latents `(B, C, …)`.

        The bins divide the range of a channel evenly. The smallest value itself, such as 0 after ReLU, has a separate
        bin.

        Args:
            latents: latents of all images, of any float type.
            per_channel: count each channel separately; needs latents of two or more dimensions.

        Raises:
            ValueError: if the latents are empty, hold NaN or infinity, or have no channels.
        """
        if latents.numel() == 0:
            raise ValueError("there are no latents to calibrate with: give at least one image")
        if per_channel and latents.dim() < 2:
            raise ValueError(f"latents of shape {tuple(latents.shape)} have no channels: calibrate per tensor")
        rows = (latents.transpose(0, 1).flatten(1) if per_channel else latents.reshape(1, -1)).detach().cpu()
        minimum, maximum = (ends.double() for ends in torch.aminmax(rows, dim=1))
        if not bool((minimum.isfinite() & maximum.isfinite()).all()):
            raise ValueError("the latents hold NaN or infinity: check weights and normalization of the network")
        scale = (maximum - minimum).clamp(min=torch.finfo(torch.float64).tiny)
        counts = torch.zeros(len(rows), BINS, dtype=torch.float64)
        sums, squares = torch.zeros_like(counts), torch.zeros_like(minimum)
        parts = torch.split(rows, max(PART // len(rows), 1), dim=1)
        for part in map(Tensor.double, parts):
            bins = (((part - minimum[:, None]) / scale[:, None]) * (BINS - 1)).ceil().long()
            counts.scatter_add_(1, bins, torch.ones_like(part))
            sums.scatter_add_(1, bins, part)
            squares += part.square().sum(1)
        mean = torch.where(minimum == maximum, minimum, sums.sum(1) / rows.shape[1])
        deviations = torch.stack([(part.double() - mean[:, None]).square().sum(1) for part in parts]).sum(0)
        even = minimum[:, None] + scale[:, None] * torch.arange(BINS, dtype=torch.float64) / (BINS - 1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), even)
        size = rows.shape[1]
        return cls(centres, counts, minimum, maximum, mean, squares / size, deviations / size)

    def cumulative(self, points: Tensor) -> Tensor:
        """Return the sum of yᵏ over all values y up to a point, divided by the number of all values, for k = 0, 1, 2.

        Args:
            points: `(R, P)`; may be infinite.

        Returns:
            float64 `(3, R, P)`, from the histogram.
        """
        powers = torch.stack([self.counts, self.counts * self.centres, self.counts * self.centres.square()])
        sums = torch.nn.functional.pad(powers.cumsum(-1), (1, 0)) / self.counts.sum(1)[:, None]
        index = torch.searchsorted(self.centres.contiguous(), points.contiguous(), right=True)
        return sums.gather(2, index.expand(3, -1, -1))
