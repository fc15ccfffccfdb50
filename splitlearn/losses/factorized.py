"""Rate loss: bits of a latent under a learnt density for each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from splitlearn.losses.base import RateLoss

LEAST = 0.1  # least standard deviation that a density starts with, in steps
TINY = 1e-7  # least distance of a ratio of probabilities from 1: below it, floats cannot tell the density from flat
FITTED, FIT_STEPS, FIT_RATE = 1024, 150, 0.05  # values of each channel, and steps, that a density is first fitted with


class FactorizedRate(RateLoss):
    """Mean bits per element under a mixture of logistics for each channel, learnt together with the bottleneck.

        bits = −log2 ∫ density over [y/Q + u − ½, y/Q + u + ½]

    y is the latent and Q the quantizer's step. In training, u ~ U(−½, ½) approximates rounding; otherwise u is 0 and
    y/Q is rounded. The integral over this interval (a cell) is the probability of its symbol. The loss is thus the mean
    size, in bits per element, of an ideal entropy code with one table per channel. For large arrays,
    `RANS(per_channel=True)` with the static tables from `tables()` comes within 1 % of it.

    Use this loss if payloads are coded in this way (the callback `LearntTables` sets the tables). `L1Rate` and
    `EntropyRate` are not in bits, but accept any number of latents and any quantizer.

    The task passes the shape and the quantizer of the latent to `begin`. Exactly one float tensor must cross the cut,
    and `Step` must quantize it.

    Args:
        components: number of logistic distributions in the mixture of each channel.
        share: share of the positions of a latent that a training step counts, drawn anew each time; the expected loss
            is the same. In front of a small bottleneck, all positions take as long as the bottleneck itself.

    Raises:
        ValueError: if `components` is not positive, or `share` is not above 0 and at most 1.

    Reference:
        Ballé et al. 2018, "Variational image compression with a scale hyperprior", Sec. 2 and App. 6.1 (noise and
        factorized density; a mixture replaces their monotone network).
    """

    means: nn.Parameter
    log_scales: nn.Parameter
    logits: nn.Parameter

    def __init__(self, components: int = 3, share: float = 1.0) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        if not 0 < share <= 1:
            raise ValueError(f"share lies above 0 and is at most 1, got {share}")
        self.components, self.share = components, share
        self.step, self.levels = math.nan, 0
        self._quantizer: tuple[nn.Module, ...] = ()

    def begin(self, shapes: Sequence[tuple[int, ...]], quantizers: Sequence[nn.Module]) -> None:
        """Create a density for each channel of the latent.

        Args:
            shapes: the shape of one image's latent, `(C, …)`, as the only entry.
            quantizers: its `Step`, as the only entry.

        Raises:
            ValueError: if there is not exactly one latent, or its quantizer is not a `Step`.
        """
        steps = [getattr(quantizer, "step", None) for quantizer in quantizers]
        if len(shapes) != 1 or steps[0] is None:
            raise ValueError(
                f"FactorizedRate needs one float tensor that crosses the cut, quantized by Step; this model has "
                f"{len(shapes)}, quantized by {', '.join(type(q).__name__ for q in quantizers)}: use L1Rate, or change "
                "the cut or the quantizer"
            )
        self.step, self.levels = float(steps[0]), int(cast("int", quantizers[0].levels))
        self._quantizer = (quantizers[0],)  # in a tuple, so that it is no part of this loss
        channels = shapes[0][0]
        spread = torch.linspace(-1, 1, self.components) if self.components > 1 else torch.zeros(1)
        self.means = nn.Parameter(spread.repeat(channels, 1))
        self.log_scales = nn.Parameter(torch.zeros(channels, self.components))
        self.logits = nn.Parameter(torch.zeros(channels, self.components))

    @torch.no_grad()
    def match(self, latents: Sequence[Tensor]) -> None:
        """Fit the density of each channel to the first batch.

        A density that starts elsewhere needs hundreds of steps to reach a latent that is already trained, and
        meanwhile drives it towards itself.
        """
        cells = latents[0].float().transpose(0, 1).flatten(1) / self.step
        cells = cells[:, torch.randperm(cells.shape[1], device=cells.device)[:FITTED]]
        mean, deviation = cells.mean(1, keepdim=True), cells.std(1, keepdim=True, correction=0).clamp_min(LEAST)
        places = torch.linspace(-1, 1, self.components) if self.components > 1 else torch.zeros(1)
        between = float(places.square().mean())  # variance of the places; the components have the rest
        self.means.copy_(mean + deviation * places.to(mean.device))
        scale = math.sqrt(3 * (1 - min(between, 0.67))) / math.pi  # of a logistic with that variance
        self.log_scales.copy_((deviation * scale).log().expand_as(self.log_scales))
        self.logits.zero_()
        optimizer = torch.optim.Adam(self.parameters(), lr=FIT_RATE)
        for _ in range(FIT_STEPS):
            with torch.enable_grad():
                loss = -self.log_probabilities((cells + torch.rand_like(cells) - 0.5)[None]).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad()

    def forward(self, latent: Tensor) -> Tensor:
        """Return the mean bits per element of a latent `(B, C, …)`.

        Raises:
            RuntimeError: if `begin` was not called (tasks call it).
        """
        self._check_begun()
        cells, gain = (self._drawn(latent) if self.training else latent).float() / self.step, self._gain()
        if gain is not None:
            cells = cells * gain.view(-1, *[1] * (cells.dim() - 2))
        cells = cells + torch.rand_like(cells) - 0.5 if self.training else cells.round()
        return -self.log_probabilities(cells, gain).mean() / math.log(2)

    def _drawn(self, latent: Tensor) -> Tensor:
        """Return a random share of the positions of a latent, `(B, C, N)`, alike in all images and channels."""
        if self.share == 1:
            return latent
        positions = latent.flatten(2)
        count = positions.shape[2]
        chosen = torch.randperm(count, device=latent.device)[: max(1, round(self.share * count))]
        return positions[:, :, chosen]

    def _gain(self) -> Tensor | None:
        """Return the gain `(C,)` of the quantizer at its rate in use; None if it has none."""
        gain: Tensor | None = getattr(self._quantizer[0], "gain", None)
        return gain

    def log_probabilities(self, centres: Tensor, gain: Tensor | None = None) -> Tensor:
        """Return the natural logarithm of the probability of quantization bins, shaped like `centres`.

        A bin is one step wide. The result is accurate even far from the means, so that the gradient does not vanish.

        Args:
            centres: centre of each bin, divided by the quantizer's step, `(B, C, …)`.
            gain: factor `(C,)` by which the latent was multiplied, and the density is scaled; None for 1.
        """
        shape = (1, -1, *[1] * (centres.dim() - 2))
        factor = 1.0 if gain is None else gain.view(shape)
        parts = []
        for weight, mean, scale in zip(
            self.logits.log_softmax(1).unbind(1), self.means.unbind(1), self.log_scales.exp().unbind(1), strict=True
        ):
            width = scale.view(shape) * factor
            # by symmetry moved to the lower tail, where no digits cancel
            away = -(centres - mean.view(shape) * factor).abs()
            upper, lower = (logsigmoid((away + end) / width) for end in (0.5, -0.5))
            # log(σ(u) − σ(l)) = log σ(u) + log(1 − σ(l)/σ(u))
            parts.append(weight.view(shape) + upper + (-torch.expm1((lower - upper).clamp(max=-TINY))).log())
        return torch.stack(parts).logsumexp(0)

    @torch.no_grad()
    def density(self) -> dict[str, NDArray[np.float32]]:
        """Return means, scales and weights of the mixtures, float32 `(C, components)`, for `DensityRANS.with_density`.

        Raises:
            RuntimeError: if `begin` was not called (tasks call it).
        """
        self._check_begun()
        found = {"means": self.means, "scales": self.log_scales.exp(), "weights": self.logits.softmax(1)}
        return {name: tensor.float().cpu().numpy().copy() for name, tensor in found.items()}

    @torch.no_grad()
    def tables(self) -> NDArray[np.int64]:
        """Return the expected counts of symbols for each channel, `(C, levels)`, with a sum of about 2³⁰ each.

        The order is that of `Step`'s symbols: 0, −1, 1, −2, 2, …. The last levels include the probability of all values
        beyond them, since these saturate. `RANS(per_channel=True).with_counts` accepts these counts.

        Raises:
            RuntimeError: if `begin` was not called (tasks call it).
        """
        self._check_begun()
        lowest, highest = -(self.levels // 2), (self.levels - 1) // 2
        integers = torch.arange(lowest, highest + 1, device=self.means.device)
        weights, scales = self.logits.double().softmax(1), self.log_scales.double().exp()
        edges = (integers[:-1] + 0.5 - self.means.double().unsqueeze(2)) / scales.unsqueeze(2)
        below = (weights.unsqueeze(2) * edges.sigmoid()).sum(1)  # (C, levels − 1): probability below each edge
        ends = below.new_zeros(len(below), 1), below.new_ones(len(below), 1)
        cells = torch.cat([ends[0], below, ends[1]], 1).diff(dim=1).clamp(min=0)
        symbols = torch.where(integers < 0, -2 * integers - 1, 2 * integers)
        ordered = torch.empty_like(cells)
        ordered[:, symbols] = cells
        counts: NDArray[np.int64] = (ordered * (1 << 30)).round().long().cpu().numpy()
        return counts

    def _check_begun(self) -> None:
        if math.isnan(self.step):
            raise RuntimeError("the channels of FactorizedRate are not set: call begin, as tasks do")
