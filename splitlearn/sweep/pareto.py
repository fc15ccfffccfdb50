"""Pareto frontiers, hypervolume and BD-rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

Floats = NDArray[np.float64]


def pareto_frontier(points: ArrayLike) -> NDArray[np.bool_]:
    """Return True for each point that no other point dominates.

    A point dominates another if its rate is no higher, its accuracy no lower, and one of the two strictly better. Equal
    points are either all on the frontier or all off it.

    Args:
        points: `(n, 2)`: rate, to be minimised; accuracy, to be maximised. A point with NaN is never on the frontier.

    Returns:
        bool `(n,)`.

    Raises:
        ValueError: if the points are not `(n, 2)`.

    Reference: Datta et al. 2022, Sec. III-C.
    """
    array = _points(points)
    mask = np.zeros(len(array), dtype=bool)
    valid = np.flatnonzero(~np.isnan(array).any(1))
    rates, scores = array[valid, 0], array[valid, 1]
    order = np.lexsort((-scores, rates))
    best, best_rate = -math.inf, math.nan
    for index in order:
        rate, score = rates[index], scores[index]
        if score > best or (score == best and (rate == best_rate or math.isnan(best_rate))):
            mask[valid[index]] = True
            best, best_rate = score, rate
    return mask


def frontier_of(points: ArrayLike) -> Floats:
    """Return the points on the frontier, each once, in ascending order of rate.

    Raises:
        ValueError: if the points are not `(n, 2)`.
    """
    array = _points(points)
    return np.unique(array[pareto_frontier(array)], axis=0)


def hypervolume(points: ArrayLike, worst_rate: float, worst_accuracy: float) -> float:
    """Return the area between a frontier and a reference point; larger is better.

    Args:
        points: `(n, 2)`, rate and accuracy.
        worst_rate: points beyond this rate do not count.
        worst_accuracy: points below this accuracy do not count.

    Raises:
        ValueError: if the points are not `(n, 2)`.
    """
    front = frontier_of(points)
    front = front[(front[:, 0] < worst_rate) & (front[:, 1] > worst_accuracy)]
    ends = np.append(front[1:, 0], worst_rate)
    return float(((ends - front[:, 0]) * (front[:, 1] - worst_accuracy)).sum())


def bd_rate(points: ArrayLike, baseline: ArrayLike) -> float:
    """Return the BD-rate against a baseline in per cent: −40 is 40 % less rate at the same accuracy.

    Each frontier is interpolated through its points by a monotone cubic. The difference of the logarithms of their
    rates is averaged over the accuracies that both reach, and converted to per cent.

    Args:
        points: `(n, 2)`, rate above zero and accuracy.
        baseline: points of the baseline, of the same form.

    Raises:
        ValueError: if a frontier has fewer than two points, a rate is not positive, or they share no accuracies.

    Reference: Bjøntegaard 2001 (VCEG-M33), with the piecewise cubic that video standards have used since 2014.
    """
    mine, theirs = frontier_of(points), frontier_of(baseline)
    for front in (mine, theirs):
        if len(front) < 2:
            raise ValueError(f"a BD-rate needs frontiers of two points or more, got {len(front)}")
        if not (front[:, 0] > 0).all() or not np.isfinite(front).all():
            raise ValueError("a BD-rate needs finite points with rates above zero")
    low, high = (pick(mine[end, 1], theirs[end, 1]) for pick, end in ((max, 0), (min, -1)))
    if low >= high:
        raise ValueError(
            f"the frontiers share no accuracies: {mine[0, 1]:.4g}…{mine[-1, 1]:.4g} "
            f"against {theirs[0, 1]:.4g}…{theirs[-1, 1]:.4g}"
        )
    areas = [PchipInterpolator(f[:, 1], np.log(f[:, 0])).integrate(low, high) for f in (mine, theirs)]
    return 100 * math.expm1((areas[0] - areas[1]) / (high - low))


def rate_at(points: ArrayLike, accuracy: float) -> float:
    """Return the rate at which a frontier reaches an accuracy; NaN if it does not reach it.

    Between two points, the logarithm of the rate is interpolated linearly in accuracy. Below the lowest accuracy, the
    rate of that point is returned.

    Args:
        points: `(n, 2)`, rate above zero and accuracy.
        accuracy: accuracy in the unit of the points.

    Raises:
        ValueError: if the points are not `(n, 2)`.

    Reference: Datta et al. 2022, Table IV.
    """
    front = frontier_of(points)
    if not len(front) or accuracy > front[-1, 1]:
        return math.nan
    return float(np.exp(np.interp(accuracy, front[:, 1], np.log(front[:, 0]))))


def evenly_spaced_rates(rates: ArrayLike, count: int) -> list[int]:
    """Return a choice of rates that are spaced as evenly as possible on a log scale, both ends included.

    It is the choice with the smallest sum of squared steps between neighbours. Of equal rates, the first is chosen.
    With a `count` of 1, the highest rate is chosen.

    Args:
        rates: `(n,)`, above zero.
        count: number of rates; if there are fewer different rates, all of them are chosen.

    Returns:
        Indices of the chosen rates, in ascending order of rate.

    Raises:
        ValueError: if a rate or the count is not positive.
    """
    given = np.asarray(rates, dtype=np.float64)
    if count < 1 or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(f"rates and their number must be positive, got {count} of {given.tolist()}")
    values, index = np.unique(given, return_index=True)
    last = len(values) - 1
    if count == 1 or last < count:
        return [int(i) for i in index[-count:]]
    logs = np.log(values)
    steps = np.where(np.tri(len(logs), k=-1) > 0, np.subtract.outer(logs, logs) ** 2, np.inf)  # from column to row
    cost, came_from = steps[:, 0], []  # of the best way from the first to each, in as many steps as have been looked at
    for _ in range(count - 2):
        came_from.append((steps + cost).argmin(1))
        cost = (steps + cost).min(1)
    chosen = [last]
    for before in reversed(came_from):
        chosen.append(int(before[chosen[-1]]))
    return [int(index[i]) for i in (0, *reversed(chosen))]


def _points(points: ArrayLike) -> Floats:
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"points must have shape (n, 2), rate and accuracy, got {array.shape}")
    return array
