"""Rate loss: entropy of the soft histogram of a latent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from splitlearn.jit import njit
from splitlearn.losses.base import RateLoss

SIGMAS = 3.0  # standard deviations from the running mean beyond which a value is an outlier
ROUNDING = 1e-6  # ratio of standard deviation to mean that float32 cannot tell from 0
LEAST = 1e-12  # smallest frequency whose logarithm is taken: below it, the gradient would overflow
LANES = 4  # histograms that the kernel fills in turn: in a single one, equal neighbouring values wait for each other


class EntropyRate(RateLoss):
    """Normalized order-0 entropy of a batch of latents, from 0 (constant) to 1 (uniform).

        values → drop those beyond running μ ± 3σ → scale to [0, 1] → soft histogram h → −Σ h log₂ h / log₂ bins

    Each value is divided between its two nearest nodes, in proportion to closeness, so that h has a gradient. There are
    `bins` nodes from 0 to 1 at distance 1/(bins − 1); with the distance 1/bins printed in the paper, the parts would
    not add up to one. Outliers are not counted and have no gradient. The gradient treats the range as a constant.

    The running mean and variance are buffers, saved with checkpoints and updated jointly by all processes of a
    distributed run. Eval mode does not update them; before the first batch, the statistics of the values themselves are
    used. Each tensor that crosses the cut has its own. A constant latent has rate 0 and gradient 0. NaN and infinity
    give NaN and do not change the statistics.

    The gradient of a value depends only on its bin. The backward pass therefore needs one byte per value, and time is
    linear in the number of values for any number of bins.

    Args:
        bins: N_b, nodes of the histogram, 2…256; 256 is the number of levels of an 8-bit quantizer.
        momentum: weight of a new batch in the running statistics.

    Raises:
        ValueError: if `bins` or `momentum` is out of range.

    Reference:
        Beysens et al. 2023, eqs. 3–5 (λ_e is the task's `rate_weight`); Ustinova & Lempitsky 2016 (triangular weights).
    """

    def __init__(self, bins: int = 256, momentum: float = 0.1) -> None:
        super().__init__()
        if not 2 <= bins <= 256:
            raise ValueError(f"bins must lie in 2…256, got {bins}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie above 0 and be at most 1, got {momentum}")
        self.bins = bins
        self.momentum = momentum
        self.ranges = nn.ModuleList([RunningRange(momentum)])

    def begin(self, shapes: Sequence[tuple[int, ...]], quantizers: Sequence[nn.Module]) -> None:
        """Create running statistics for each latent."""
        self.ranges = nn.ModuleList(RunningRange(self.momentum) for _ in shapes)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the normalized entropy of the values of one latent `(B, …)`, a scalar in [0, 1]."""
        return self._rate(latent, self.ranges[0])

    def total(self, latents: Sequence[Tensor]) -> Tensor:
        """Return the sum of the rates of all latents, each measured with its own running statistics."""
        return torch.stack([self._rate(latent, each) for latent, each in zip(latents, self.ranges, strict=True)]).sum()

    def _rate(self, latent: Tensor, running: nn.Module) -> Tensor:
        values = latent if latent.dtype == torch.float64 else latent.float()
        low, high = running(values.detach())
        rate: Tensor = SoftHistogramEntropy.apply(values, low, high, self.bins)
        return rate + 0 * values.detach().mean()  # not finite if a value is not


class RunningRange(nn.Module):
    """Running range μ ± 3σ over the batches of training; `momentum` is the weight of a new batch."""

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("variance", torch.zeros((), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the limits for a batch, two float64 scalars, equal for a constant batch; training counts it first."""
        own = _mean_and_variance(values)
        if self.training:
            mean, variance = _over_processes(own, values.numel())
            weight = torch.where(self.batches == 0, 1.0, self.momentum)
            seen = torch.isfinite(variance)
            for kept, new in ((self.mean, mean), (self.variance, variance)):  # float64, unless the module was cast
                kept.copy_(torch.where(seen, kept.double().lerp(new, weight), kept))
            self.batches += seen
        known = self.batches > 0
        mean = torch.where(known, self.mean.double(), own[0])
        reach = SIGMAS * torch.where(known, self.variance.double(), own[1]).sqrt()
        constant = own[1].sqrt() <= ROUNDING * own[0].abs()
        return torch.where(constant, own[0], mean - reach), torch.where(constant, own[0], mean + reach)


class SoftHistogramEntropy(torch.autograd.Function):
    """−Σ h log₂ h / log₂ bins of values between two limits, with its exact gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
        """Return the entropy, a scalar of the values' type, of floats of any shape; saves one byte per value.

        The first node is at `low`, the last at `high`, float64 scalars.
        """
        order = sorted(range(values.dim()), key=values.stride, reverse=True)  # order in memory: avoids a copy
        ordered = values.detach().permute(order)
        flat = ordered.contiguous().view(-1)
        last, width = bins - 1, high - low
        scale = torch.where(width > 0, last / width, 0.0)
        count = count_compiled if flat.device.type == "cpu" else count_in_torch
        index, counts, shares = count(flat, low, scale, last)
        frequencies = torch.zeros(bins, dtype=torch.float64, device=flat.device)
        frequencies[:-1] += counts - shares
        frequencies[1:] += shares
        kept = counts.sum().clamp(min=1)
        frequencies /= kept
        entropy: Tensor = -torch.special.xlogy(frequencies, frequencies).sum() / math.log(bins)
        logarithms = frequencies.clamp(min=LEAST).log() / math.log(bins)
        slopes = torch.zeros(bins, dtype=torch.float64, device=flat.device)  # the last one is for outliers
        slopes[:-1] = logarithms.diff() * (-scale / kept)
        ctx.save_for_backward(index, slopes.to(values.dtype))
        ctx.order, ctx.sizes = order, ordered.shape  # type: ignore[attr-defined]
        return entropy.to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the slope of each value's bin times the incoming gradient."""
        index, slopes = ctx.saved_tensors
        slopes = slopes * gradient
        flat = (look_up_compiled if index.device.type == "cpu" else look_up)(slopes, index)
        back = [ctx.order.index(dimension) for dimension in range(len(ctx.order))]
        values_gradient: Tensor = flat.view(ctx.sizes).permute(back)
        return values_gradient, None, None, None


def _mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance, float64 scalars, from squared deviations: E[x²] − μ² loses all digits if μ ≫ σ."""
    mean = values.mean()
    deviation = torch.linalg.vector_norm(values - mean).double()
    return mean.double(), deviation.square() / torch.tensor(values.numel(), device=values.device)


def _over_processes(moments: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the values of all processes of a distributed run."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return moments
    mean, variance = moments
    sums = torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * count
    distributed.all_reduce(sums)
    total, first, second = sums.unbind()
    return first / total, (second / total - (first / total).square()).clamp(min=0)


def count_in_torch(flat: Tensor, low: Tensor, scale: Tensor, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return each value's bin (`last` for outliers), values in each bin, and their distances to its lower node."""
    position = (flat.double() - low) * scale
    inside = (position >= 0) & (position <= last)
    index = torch.where(inside, position, 0.0).floor().clamp(max=last - 1)
    share = torch.where(inside, position - index, 0.0)
    index = torch.where(inside, index, last).int()
    counts = torch.bincount(index, minlength=last + 1)[:last]
    return index.byte(), counts.double(), torch.bincount(index, share, minlength=last + 1)[:last]


def count_compiled(flat: Tensor, low: Tensor, scale: Tensor, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `count_in_torch` returns, computed in one pass."""
    index = np.empty(flat.numel(), np.uint8)
    counts, shares = np.zeros((LANES, last + 1), np.int64), np.zeros((LANES, last + 1))
    _fill(flat.numpy(), low.item(), scale.item(), last, index, counts, shares)
    both = torch.from_numpy(counts.sum(0)[:last]).double(), torch.from_numpy(shares.sum(0)[:last])
    return torch.from_numpy(index), *both


def look_up(slopes: Tensor, index: Tensor) -> Tensor:
    """Return the slope of each value's bin."""
    return slopes[index.int()]


def look_up_compiled(slopes: Tensor, index: Tensor) -> Tensor:
    """Return what `look_up` returns, on the CPU."""
    gradient = torch.empty(index.shape, dtype=slopes.dtype)
    _copy_slopes(index.numpy(), slopes.numpy(), gradient.numpy())
    return gradient


@njit
def _fill(
    values: NDArray[np.floating[Any]],
    low: float,
    scale: float,
    last: int,
    index: NDArray[np.uint8],
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> None:
    """Write the bin of each value, and add counts and distances to the lanes in turn."""
    for i in range(values.size):
        position = (np.float64(values[i]) - low) * scale
        inside = (position >= 0) & (position <= last)
        at = min(int(position), last - 1) if inside else last
        index[i] = at
        counts[i & (LANES - 1), at] += 1
        shares[i & (LANES - 1), at] += position - at


@njit
def _copy_slopes(index: NDArray[np.uint8], slopes: NDArray[Any], gradient: NDArray[Any]) -> None:
    """Write the slope of the bin of each value."""
    for i in range(index.size):
        gradient[i] = slopes[index[i]]
