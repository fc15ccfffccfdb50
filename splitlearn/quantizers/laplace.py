"""Model of activations: asymmetric Laplace before ReLU or leaky ReLU, fitted to mean and variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

WIDEST = 40.0  # bound of the search for modes, in multiples of 1/rate


@dataclass(frozen=True)
class AsymmetricLaplace:
    """Distribution of an activation for each of R rows: Y = X if X ≥ 0, else slope · X, where X is asymmetric Laplace.

    The density of X falls as exp(−rate · asymmetry · (x − mode)) above its mode, and as
    exp(rate / asymmetry · (x − mode)) below.

    Attributes:
        rate: λ, float64 `(R,)`.
        mode: μ, the maximum of the density of X, `(R,)`.
        slope: slope of the activation below zero; 0 for ReLU.
        asymmetry: κ; below 1, the upper tail is longer.

    Reference: Cohen, Choi & Bajić 2020.
    """

    rate: Tensor
    mode: Tensor
    slope: float = 0.0
    asymmetry: float = 0.5

    def __post_init__(self) -> None:
        check_shape(self.slope, self.asymmetry)

    @classmethod
    def fit(cls, mean: Tensor, mean_square: Tensor, slope: float = 0.0, asymmetry: float = 0.5) -> Self:
        """Return the distribution for which Y has these moments; the mode μ and the rate λ are fitted.

        E[Y]/√E[Y²] depends only on λ·μ and grows with it, so it determines λ·μ; then E[Y²] determines λ. Moments that
        no such distribution has are approximated with |λ·μ| ≤ 40.

        Args:
            mean: E[Y] of each row, float64 `(R,)`.
            mean_square: E[Y²] of each row, float64 `(R,)`.
            slope: slope of the activation below zero.
            asymmetry: κ.
        """
        wanted = mean.double() / mean_square.double().sqrt()
        below, above = torch.full_like(wanted, -WIDEST), torch.full_like(wanted, WIDEST)
        for _ in range(60):
            middle = (below + above) / 2
            first, second = cls(torch.ones_like(middle), middle, slope, asymmetry).moments()
            higher = first / second.sqrt() < wanted
            below, above = torch.where(higher, middle, below), torch.where(higher, above, middle)
        mode = (below + above) / 2
        rate = (cls(torch.ones_like(mode), mode, slope, asymmetry).moments()[1] / mean_square.double()).sqrt()
        return cls(rate, mode / rate, slope, asymmetry)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return E[Y] and E[Y²], float64 `(R,)` each."""
        _, first, second = self.cumulative(torch.full((len(self.rate), 1), float("inf"), dtype=torch.float64))[..., 0]
        return first, second

    def range(self) -> tuple[Tensor, Tensor]:
        """Return a lower and an upper limit with nearly all values of Y between them, float64 `(R,)` each."""
        rate, mode = self.rate.double(), self.mode.double()
        lowest = (mode - WIDEST * self.asymmetry / rate).clamp(max=0) * self.slope
        return lowest, mode.clamp(min=0) + WIDEST / (self.asymmetry * rate)

    def cumulative(self, points: Tensor) -> Tensor:
        """Return ∫ yᵏ p(y) dy from −∞ to each of `points` `(R, P)`, for k = 0, 1, 2, float64 `(3, R, P)`.

        p is the density of Y; points may be infinite.
        """
        total = torch.zeros(3, *points.shape, dtype=torch.float64)
        rate, mode = self.rate.double()[:, None], self.mode.double()[:, None]
        peak = rate / (self.asymmetry + 1 / self.asymmetry)
        falling, rising = -rate * self.asymmetry, rate / self.asymmetry
        zero, infinity = torch.zeros_like(mode), torch.full_like(mode, float("inf"))
        tails = ((-infinity, mode, rising), (mode, infinity, falling))
        for start, end, exponent in tails:
            total += _moments(torch.maximum(start, zero), torch.maximum(end, zero), exponent, mode, peak, points)
            negative = torch.minimum(start, zero), torch.minimum(end, zero)
            if self.slope > 0:
                start, end = (bound * self.slope for bound in negative)
                how = exponent / self.slope, mode * self.slope, peak / self.slope
                total += _moments(start, end, *how, points)
            else:  # the whole negative part is mapped to zero
                mass = _moments(*negative, exponent, mode, peak, infinity)[0]
                total[0] += torch.where(points >= 0, mass, 0.0)
        return total


def check_shape(slope: float, asymmetry: float) -> None:
    """Raise ValueError if the slope or the asymmetry is out of range."""
    if not 0 <= slope <= 1:
        raise ValueError(f"the slope below zero must lie in 0…1, got {slope}")
    if not 0 < asymmetry < float("inf"):
        raise ValueError(f"asymmetry must be a positive number, got {asymmetry}")


def _moments(start: Tensor, end: Tensor, exponent: Tensor, mode: Tensor, peak: Tensor, points: Tensor) -> Tensor:
    """Return ∫ yᵏ peak·exp(exponent·(y − mode)) dy from `start` to `end` or `points`, if lower, for k = 0, 1, 2."""
    upper = torch.minimum(torch.maximum(points, start), end)
    return _antiderivative(upper, exponent, mode, peak) - _antiderivative(start, exponent, mode, peak)


def _antiderivative(y: Tensor, exponent: Tensor, mode: Tensor, peak: Tensor) -> Tensor:
    density = peak / exponent * (exponent * (y - mode)).exp()
    inside = y.isfinite()  # the antiderivative is 0 at the infinite end of a tail
    y = torch.where(inside, y, 0.0)
    powers = torch.stack([torch.ones_like(y), y - 1 / exponent, y.square() - 2 * y / exponent + 2 / exponent.square()])
    return torch.where(inside, density * powers, 0.0)
