"""Entropy-constrained quantization: levels that minimise squared error plus weighted bits, within clipping limits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from splitlearn.quantizers.clipped import Clipped, even_values
from splitlearn.quantizers.statistics import LatentStatistics

STEPS = 200
SETTLED = 1e-7  # relative change of the cost at which the design ends


class CodeLengths(ABC):
    """Base class of rules for the number of bits that a codec spends on each symbol."""

    @abstractmethod
    def bits(self, counts: Tensor) -> Tensor:
        """Return the bits of each symbol, float64 `(levels,)`, infinite for a symbol that must not be used.

        Args:
            counts: number of occurrences of each symbol, `(levels,)`.
        """


class IdealLengths(CodeLengths):
    """Code lengths −log₂ p, as with arithmetic coding and approximately with RANS."""

    def bits(self, counts: Tensor) -> Tensor:
        """Return −log₂ of the relative frequency of each symbol."""
        return -(counts / counts.sum()).log2()


class TruncatedUnaryLengths(CodeLengths):
    """Code lengths of truncated unary code for N levels: n + 1 bits for symbol n, N − 1 for the last symbol.

    The codec `TruncatedUnary` codes these bits adaptively and writes fewer; `IdealLengths` describes it better.
    """

    def bits(self, counts: Tensor) -> Tensor:
        """Return the lengths; they do not depend on the counts."""
        lengths = torch.arange(1, len(counts) + 1, dtype=torch.float64)
        return lengths.clamp(max=len(counts) - 1)


@dataclass(frozen=True)
class Design:
    """Levels, thresholds and cost after one step of `design_steps`, for R channels.

    Attributes:
        values: levels, float64 `(R, levels)`, ascending; first and last are the limits.
        thresholds: float64 `(R, levels − 1)`, ascending; a level between equal thresholds is unused.
        distortion: mean squared error divided by the latents' variance.
        rate: mean bits per element.
        cost: distortion + rate_weight · rate.
    """

    values: Tensor
    thresholds: Tensor
    distortion: float
    rate: float
    cost: float


def entropy_constrained(
    statistics: LatentStatistics,
    low: Tensor,
    high: Tensor,
    levels: int,
    rate_weight: float,
    lengths: CodeLengths | None = None,
) -> Clipped:
    """Return a `Clipped` quantizer whose levels minimise squared error plus weighted bits per element.

    The first and the last level stay at the clipping limits; see `design_steps` for the method.

    Args:
        statistics: statistics of the calibration latents, with R rows: one per channel, or one for all.
        low: lower clipping limit of each row, `(R,)`.
        high: upper clipping limit of each row, `(R,)`.
        levels: number of levels, 2…256.
        rate_weight: squared error, as a share of the latents' variance, that is accepted to save one bit per element.
        lengths: rule for the bits of each symbol; `IdealLengths()` by default.

    Raises:
        ValueError: if a limit is not finite, `low` is above `high`, or `levels` or `rate_weight` is out of range.
    """
    final = design_steps(statistics, low, high, levels, rate_weight, lengths)[-1]
    return Clipped.with_levels(final.values, final.thresholds)


def design_steps(
    statistics: LatentStatistics,
    low: Tensor,
    high: Tensor,
    levels: int,
    rate_weight: float,
    lengths: CodeLengths | None = None,
) -> list[Design]:
    """Optimize levels in steps, from evenly spaced ones until the cost converges; return the state after each step.

    A step assigns each value x to the level x̂ₙ with the least (x − x̂ₙ)² + λ·bₙ, where bₙ is the number of bits of
    symbol n; then it moves interior levels to the mean of their values, and updates the bits. None of these increases
    the cost. The first and last levels stay at the clipping limits, so that clipped values are restored to the limits.
    A symbol has the same number of bits in all channels.

    Args:
        statistics: statistics of the calibration latents, R rows.
        low: lower clipping limits, `(R,)`.
        high: upper clipping limits, `(R,)`.
        levels: number of levels, 2…256.
        rate_weight: λ divided by the latents' variance: 0.01 accepts an error of 1 % of the variance to save one bit
            per element.
        lengths: code lengths; `IdealLengths()` by default.

    Raises:
        ValueError: if a limit is not finite, `low` is above `high`, or `levels` or `rate_weight` is out of range.

    Reference: Cohen, Choi & Bajić 2020.
    """
    if not 2 <= levels <= 256 or rate_weight < 0:
        raise ValueError(f"levels must lie in 2…256 and rate_weight must not be negative, got {levels}, {rate_weight}")
    lengths = lengths or IdealLengths()
    elements = statistics.counts.sum(1, keepdim=True)
    share = elements / elements.sum()
    variance = float((statistics.variance[:, None] * share).sum())
    values = even_values(low.double(), high.double(), levels)
    bits = lengths.bits(torch.ones(levels, dtype=torch.float64))
    steps: list[Design] = []
    for _ in range(STEPS):
        prices = torch.where(bits.isinf(), bits, rate_weight * variance * bits)  # no 0 · ∞ where the weight is 0
        thresholds = _thresholds(values, prices)
        m0, m1, m2 = _cells(statistics, thresholds)
        values = _centred(values, m0, m1)
        used = (m0 * share).sum(0)
        bits = lengths.bits(used)
        distortion = float(((m2 - 2 * values * m1 + values.square() * m0) * share).sum()) / variance
        rate = float(torch.where(used > 0, used * bits, 0.0).sum())
        steps.append(Design(values, thresholds, distortion, rate, distortion + rate_weight * rate))
        if len(steps) > 1 and steps[-2].cost - steps[-1].cost <= SETTLED * steps[-2].cost:
            break
    return steps


def _cells(statistics: LatentStatistics, thresholds: Tensor) -> Tensor:
    """Return share, mean and mean square of the values in each bin, float64 `(3, R, levels)`."""
    inner = statistics.cumulative(thresholds)
    total = statistics.cumulative(torch.full((len(thresholds), 1), math.inf, dtype=torch.float64))
    return torch.cat([torch.zeros_like(total), inner, total], dim=-1).diff(dim=-1)


def _centred(values: Tensor, mass: Tensor, first: Tensor) -> Tensor:
    """Return the values with interior ones moved to the mean of their bin, within the limits and in order."""
    means = torch.where(mass > 0, first / mass.clamp(min=1e-300), values)
    moved = torch.clamp(means, values[:, :1], values[:, -1:])
    moved[:, 0], moved[:, -1] = values[:, 0], values[:, -1]
    return moved.cummax(dim=1).values


def _thresholds(values: Tensor, prices: Tensor) -> Tensor:
    """Return the thresholds between the levels of least cost, `(R, levels − 1)`.

    The costs (x − x̂ₙ)² + priceₙ differ by straight lines in x, so the least costs form their lower envelope, computed
    from left to right. A level that is nowhere on the envelope has an empty bin at the start of the next level.
    """
    thresholds = torch.full((len(values), values.shape[1] - 1), math.inf, dtype=torch.float64)
    costs = prices.tolist()
    for row, centres in enumerate(values.tolist()):
        envelope: list[tuple[int, float]] = []  # levels of least cost, and where each one begins
        for level, (centre, cost) in enumerate(zip(centres, costs, strict=True)):
            if math.isinf(cost):
                continue
            start = -math.inf
            while envelope:
                last, its_start = envelope[-1]
                start = _crossing(centres[last], costs[last], centre, cost)
                if start > its_start:
                    break
                envelope.pop()
                start = -math.inf
            envelope.append((level, start))
        previous = 0
        for level, start in envelope:
            thresholds[row, previous:level] = start
            previous = level
    return thresholds


def _crossing(left: float, left_cost: float, right: float, right_cost: float) -> float:
    """Return the value from which the right level has the lower cost."""
    if left == right:
        return -math.inf if right_cost < left_cost else math.inf
    return (left + right) / 2 + (right_cost - left_cost) / (2 * (right - left))
