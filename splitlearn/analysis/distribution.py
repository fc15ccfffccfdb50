"""Empirical distributions of features as quantiles, and checks of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STEPS = 500
SHARES = tuple(step / STEPS for step in range(STEPS + 1))
"""Shares of values, 0…1, at which a `Distribution` has quantiles."""


@dataclass(frozen=True)
class Distribution:
    """Empirical distribution of some values.

    Attributes:
        name: name of the values.
        count: number of values.
        zeros: share of values that are exactly 0.
        minimum: smallest value.
        maximum: largest value.
        mean: arithmetic mean.
        std: standard deviation.
        quantiles: for each of `SHARES`, the smallest value that at least this share of the values does not exceed;
            plotted against the shares, they are the empirical CDF.
    """

    name: str
    count: int
    zeros: float
    minimum: float
    maximum: float
    mean: float
    std: float
    quantiles: tuple[float, ...]

    @property
    def range(self) -> float:
        """Largest value minus smallest value."""
        return self.maximum - self.minimum


def distribution(values: Tensor, name: str) -> Distribution:
    """Return the empirical distribution of all values of a tensor.

    Args:
        values: floats of any shape; computed in float32, mean and deviation summed in float64.
        name: name of the values.

    Raises:
        ValueError: if there are no values, or one is NaN or infinite.
    """
    ordered = np.sort(values.detach().float().cpu().numpy(), axis=None)
    if not ordered.size:
        raise ValueError(f"{name}: there are no values to describe")
    if not np.isfinite(ordered[[0, -1]]).all():  # NaN is sorted behind infinity
        raise ValueError(f"{name}: NaN or infinity has no place in a distribution")
    positions = (np.arange(STEPS + 1) * ordered.size + STEPS - 1) // STEPS - 1
    return Distribution(
        name=name,
        count=ordered.size,
        zeros=float(np.count_nonzero(ordered == 0) / ordered.size),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        mean=float(ordered.mean(dtype=np.float64)),
        std=float(ordered.std(dtype=np.float64)),
        quantiles=tuple(ordered[positions.clip(min=0)].tolist()),
    )


def checked_features(features: Tensor, spatial: bool = False) -> Tensor:
    """Return features `(B, …)` as float32 on the CPU, without gradient.

    Raises ValueError if they are empty, not floats, NaN or infinite, or not `(B, C, H, W)` although `spatial` is set.
    """
    if not features.is_floating_point():
        raise ValueError(f"features are floats, got {features.dtype}")
    if spatial and features.ndim != 4:
        raise ValueError(
            f"features of shape {tuple(features.shape[1:])} have no channels, rows and columns: this analysis needs "
            "(C, H, W), so cut the network earlier"
        )
    if features.ndim < 2 or not features.numel():
        raise ValueError(f"there is nothing to analyse in features of shape {tuple(features.shape)}")
    check_rows(features)
    return features.detach().float().cpu()


def check_rows(features: Tensor, first: int = 0) -> None:
    """Raise ValueError if features `(B, …)` hold NaN or infinity; it names the image, counted from `first`."""
    finite = torch.isfinite(features.flatten(1)).all(1)
    if not finite.all():
        image = first + int(finite.int().argmin())
        raise ValueError(f"the features of image {image} hold NaN or infinity: check weights and normalization")
