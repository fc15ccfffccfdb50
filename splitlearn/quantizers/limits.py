"""Clipping limits with the least error of uniform quantization, measured on latents or from a model of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from splitlearn.quantizers.clipped import even_values, midpoints
from splitlearn.quantizers.laplace import AsymmetricLaplace, check_shape
from splitlearn.quantizers.statistics import LatentStatistics

Pair = tuple[Tensor, Tensor]
CANDIDATES, ROUNDS = 25, 12


class Cumulative(Protocol):
    """Distributions of values, measured or modelled, one for each of R rows."""

    def cumulative(self, points: Tensor) -> Tensor:
        """Return ∫ yᵏ p(y) dy from −∞ to each of `points` `(R, P)`, for k = 0, 1, 2, float64 `(3, R, P)`.

        p is the density of the values; points may be infinite.
        """


class Limits(ABC):
    """Base class of rules that choose the clipping limits of a quantizer; commands take new ones by import path."""

    @abstractmethod
    def of(self, statistics: LatentStatistics, levels: int) -> Pair:
        """Return the clipping limits (low, high), float64 `(R,)` each; they are equal for a row of one repeated value.

        Args:
            statistics: statistics of the calibration latents, R rows.
            levels: N, number of levels of the uniform quantizer.

        Raises:
            ValueError: if the rule does not apply to these latents.
        """


class LeastError(Limits):
    """Clipping limits with the least squared quantization error, measured on the calibration latents."""

    def of(self, statistics: LatentStatistics, levels: int) -> Pair:
        """Return the clipping limits with the least measured error."""
        whole = statistics.minimum, statistics.maximum
        return least_error_limits(statistics, whole, whole, levels)


class LaplaceLimits(Limits):
    """Clipping limits with the least expected squared error, for inputs of the activation with a Laplace distribution.

    The (asymmetric) distribution is fitted to the mean and the variance of the latents; nothing else of them is used.

    Args:
        slope: slope of the activation below zero: 0 for ReLU, 0.1 or 0.01 for leaky ReLU, 1 without activation.
        asymmetry: κ of the distribution; fixed, as in the paper, while scale and mode are fitted.

    Raises:
        ValueError: if the slope is not in 0…1, or κ is not positive.

    Reference: Cohen, Choi & Bajić 2020.
    """

    def __init__(self, slope: float = 0.0, asymmetry: float = 0.5) -> None:
        check_shape(slope, asymmetry)
        self.slope, self.asymmetry = slope, asymmetry

    def of(self, statistics: LatentStatistics, levels: int) -> Pair:
        """Return the clipping limits with the least expected error for the fitted distribution.

        Raises:
            ValueError: if there are negative latents and the slope is 0.
        """
        if self.slope == 0:
            _refuse_negative(statistics, "LaplaceLimits(slope=0)")
        constant = statistics.variance <= 0
        mean = statistics.mean.masked_fill(constant, 1.0)
        mean_square = statistics.mean_square.masked_fill(constant, 2.0)
        model = AsymmetricLaplace.fit(mean, mean_square, self.slope, self.asymmetry)
        low, high = least_error_limits(model, model.range(), model.range(), levels)
        return torch.where(constant, statistics.minimum, low), torch.where(constant, statistics.maximum, high)


class ReluLimits(Limits):
    """Clipping limits after ReLU in closed form, if positive latents are exponentially distributed.

    The lower limit is 0. The density A·exp(−a·y) of the positive values has a = 2·E[Y]/E[Y²], where the means are over
    all elements, zeros included. The best upper limit c1 satisfies a·c1 = 2.000, 2.90, 3.49, 4.82 for 2, 3, 4, 8 levels
    (`unit_limit`).
    """

    def of(self, statistics: LatentStatistics, levels: int) -> Pair:
        """Return the clipping limits 0 and c1, float64 `(R,)` each.

        Raises:
            ValueError: if there are negative latents.
        """
        _refuse_negative(statistics, "ReluLimits")
        rate = 2 * statistics.mean / statistics.mean_square.clamp(min=torch.finfo(torch.float64).tiny)
        high = torch.where(rate > 0, unit_limit(levels) / rate.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        constant = statistics.variance <= 0
        low = torch.where(constant, statistics.minimum, torch.zeros_like(high))
        return low, torch.where(constant, statistics.maximum, high)


def _refuse_negative(statistics: LatentStatistics, rule: str) -> None:
    if (least := float(statistics.minimum.min())) < 0:
        raise ValueError(
            f"{rule} is for latents after ReLU, and the smallest of these is {least:.3g}: use LeastError, or "
            "LaplaceLimits with the slope of the activation"
        )


@cache
def unit_limit(levels: int) -> float:
    """Return c1 for which even levels on [0, c1] have the least squared error, for the density exp(−y) of y ≥ 0."""
    unit = AsymmetricLaplace(torch.ones(1) * 2.0, torch.zeros(1), slope=0.0, asymmetry=0.5)  # exp(−y) above 0, scaled
    zero, far = torch.zeros(1, dtype=torch.float64), torch.full((1,), 40.0, dtype=torch.float64)
    return float(least_error_limits(unit, (zero, zero), (zero, far), levels)[1])


def squared_error(values: Cumulative, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return the expected squared error of evenly spaced levels, clipping error included, float64 `(R, K)`.

    Args:
        values: distribution of the values, R rows.
        low: K candidates of the lower limit for each row, `(R, K)`.
        high: K candidates of the upper limit, `(R, K)`.
        levels: N.
    """
    table = even_values(low.reshape(-1), high.reshape(-1), levels)
    thresholds = midpoints(table)
    rows = len(low)
    moments = values.cumulative(thresholds.reshape(rows, -1)).reshape(3, *low.shape, levels - 1)
    total = values.cumulative(torch.full((rows, 1), float("inf"), dtype=torch.float64))
    start, end = torch.zeros_like(moments[..., :1]), total.reshape(3, rows, 1, 1).expand(3, *low.shape, 1)
    m0, m1, m2 = torch.cat([start, moments, end], dim=-1).diff(dim=-1)
    table = table.reshape(*low.shape, levels)
    error: Tensor = (m2 - 2 * table * m1 + table.square() * m0).sum(-1)
    return error


def least_error_limits(values: Cumulative, lows: Pair, highs: Pair, levels: int) -> Pair:
    """Return the clipping limits that minimise `squared_error`, float64 `(R,)` each.

    Upper and lower limits are searched in turn, in a window that narrows around the best limit so far.

    Args:
        values: distribution of the values, R rows.
        lows: least and largest lower limit of the search, `(R,)` each.
        highs: least and largest upper limit of the search, `(R,)` each.
        levels: N.
    """
    low, high = lows[0], highs[1]
    shares = torch.linspace(-1, 1, CANDIDATES, dtype=torch.float64)
    for number in range(ROUNDS):
        window = ((highs[1] - lows[0]) * 0.6**number)[:, None] * shares
        tried = torch.clamp(high[:, None] + window, torch.maximum(low, highs[0])[:, None], highs[1][:, None])
        error = squared_error(values, low[:, None].expand_as(tried), tried, levels)
        high = tried.gather(1, error.argmin(1, keepdim=True))[:, 0]
        tried = torch.clamp(low[:, None] + window, lows[0][:, None], torch.minimum(high, lows[1])[:, None])
        error = squared_error(values, tried, high[:, None].expand_as(tried), levels)
        low = tried.gather(1, error.argmin(1, keepdim=True))[:, 0]
    return low, high
