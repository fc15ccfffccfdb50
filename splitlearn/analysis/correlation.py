"""Differences of neighbouring coefficients: along rows, columns, channels, and from frame to frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from splitlearn.analysis.coefficients import ALL_IMAGES, spread
from splitlearn.analysis.distribution import Distribution, checked_features, distribution

FRAME = "frame"
AXES = {"row": 3, "column": 2, "channel": 1}
"""Dimension of `(B, C, H, W)` of each axis: "row" compares with the left neighbour, "column" with the upper one."""


@dataclass(frozen=True)
class AxisCorrelation:
    """Correlation of neighbours along one axis.

    Attributes:
        axis: "row", "column", "channel" or "frame".
        pairs: number of compared neighbours.
        range_ratio: range of an image's differences divided by the range of its coefficients, mean over images; at most
            2, since differences of values in 0…M lie in −M…M. None if every image is constant.
        std_ratio: standard deviation of the differences divided by that of the coefficients, over all images; below 1
            if the correlation is above one half. None if all coefficients are equal.
        correlation: Pearson correlation of neighbours (lag 1) over all images. None if either side is constant.
        correlation_in_channel: the correlation after subtraction of each channel's mean over all images, which removes
            the part that comes from different means of channels. None if either side is constant.
    """

    axis: str
    pairs: int
    range_ratio: float | None
    std_ratio: float | None
    correlation: float | None
    correlation_in_channel: float | None


def differences(features: Tensor, axis: str) -> Tensor:
    """Return each coefficient minus its predecessor.

    Args:
        features: `(B, C, H, W)`; along "frame" `(B, …)`, B being consecutive frames.
        axis: "row" (minus its left neighbour), "column" (minus its upper one), "channel" (minus the same position in
            the channel before) or "frame" (minus the same coefficient in the frame before).

    Returns:
        Shaped like `features`, but one shorter along the axis; empty if there are no neighbours.

    Raises:
        ValueError: if the axis is unknown, or `features` do not have it.
    """
    later, earlier = _neighbours(features, axis)
    return later - earlier


def difference_distributions(features: Tensor, axis: str, samples: int = 4) -> list[Distribution]:
    """Return the distribution of the differences of all images together, then of some images.

    Args:
        features: `(B, C, H, W)`, finite; along "frame" `(B, …)`.
        axis: see `differences`.
        samples: number of single images or pairs of frames, evenly spaced.

    Raises:
        ValueError: if there are no features or no neighbours, one is NaN or infinite, or the axis does not fit.

    Reference:
        Carra & Neglia 2023, Figs. 2 and 3.
    """
    found = differences(_checked(features, axis), axis)
    if not found.numel():
        raise ValueError(f"features of shape {tuple(features.shape)} have no neighbours along the {axis}")
    name = "frames {} and {}" if axis == FRAME else "image {}"
    single = [distribution(found[i], name.format(i, i + 1)) for i in spread(len(found), samples)]
    return [distribution(found, "all frames" if axis == FRAME else ALL_IMAGES), *single]


def axis_correlation(features: Tensor, axis: str) -> AxisCorrelation:
    """Return the correlation of neighbours along an axis.

    The paper compares ranges, which depend on single outliers. The correlation ρ gives the gain of a linear prediction
    from the neighbour: its error has 1 − ρ² of the variance.

    Args:
        features: `(B, C, H, W)`, finite; along "frame" `(B, …)`.
        axis: see `differences`.

    Raises:
        ValueError: if there are no features, one is NaN or infinite, or the axis does not fit.

    Reference:
        Carra & Neglia 2023, Sec. III.
    """
    features = _checked(features, axis)
    found = differences(features, axis)
    spread = float(features.std(correction=0)) if features.min() < features.max() else 0.0
    others = [d for d in range(features.ndim) if d != 1]
    floor = 1e-12 * float(features.abs().max()) ** 2  # what rounding leaves of a constant's variance is less
    return AxisCorrelation(
        axis=axis,
        pairs=found.numel(),
        range_ratio=_range_ratio(found, features),
        std_ratio=float(found.std(correction=0)) / spread if spread and found.numel() else None,
        correlation=_pearson(features - features.mean(), axis, floor),
        correlation_in_channel=_pearson(features - features.mean(others, keepdim=True), axis, floor),
    )


def _checked(features: Tensor, axis: str) -> Tensor:
    return checked_features(features, spatial=axis != FRAME)


def _neighbours(features: Tensor, axis: str) -> tuple[Tensor, Tensor]:
    """Return the coefficients that have a predecessor along the axis, and these predecessors."""
    if axis not in (*AXES, FRAME):
        raise ValueError(f"there is no axis {axis!r}: take one of {', '.join((*AXES, FRAME))}")
    if axis != FRAME and features.ndim != 4:
        raise ValueError(f"features of shape {tuple(features.shape)} have no {axis}: they must be (B, C, H, W)")
    dim = AXES.get(axis, 0)
    pairs = max(features.shape[dim] - 1, 0)
    return features.narrow(dim, features.shape[dim] - pairs, pairs), features.narrow(dim, 0, pairs)


def _range_ratio(found: Tensor, features: Tensor) -> float | None:
    """Return the mean ratio of ranges over the images that are not constant."""
    if not found.numel():
        return None
    ranges = [t.flatten(1).double().aminmax(dim=1) for t in (found, features[-len(found) :])]
    of_differences, of_coefficients = (each.max - each.min for each in ranges)
    varied = of_coefficients > 0
    return float((of_differences[varied] / of_coefficients[varied]).mean()) if varied.any() else None


def _pearson(centred: Tensor, axis: str, floor: float) -> float | None:
    """Return the correlation of neighbours, summed in float64 image by image; None if a variance is below floor."""
    later, earlier = _neighbours(centred, axis)
    if not later.numel():
        return None
    sums = torch.zeros(5, dtype=torch.float64)
    for one, other in zip(later, earlier, strict=True):
        x, y = one.flatten().double(), other.flatten().double()
        sums += torch.stack([x.sum(), y.sum(), x @ x, y @ y, x @ y])
    mean_x, mean_y, xx, yy, xy = (sums / later.numel()).tolist()
    variances = xx - mean_x**2, yy - mean_y**2
    return (xy - mean_x * mean_y) / math.sqrt(math.prod(variances)) if min(variances) > floor else None
