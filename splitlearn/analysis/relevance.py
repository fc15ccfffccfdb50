"""Relevance of coefficients for a classification, and the distribution of relevant coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor, nn

from splitlearn.analysis.distribution import Distribution, checked_features, distribution
from splitlearn.analysis.spectrum import class_logits

Measure = Callable[[Tensor, Tensor], Tensor]
"""Function of features `(B, C, H, W)` and of the class score's gradient that returns each coefficient's relevance."""


def weighted_activation(features: Tensor, gradient: Tensor) -> Tensor:
    """Return a_k · x_kij, where a_k is the mean gradient of channel k: each coefficient's part of the Grad-CAM map.

    Reference: Selvaraju et al. 2017, eqs. 1 and 2, before the sum over channels and the ReLU.
    """
    return gradient.mean((2, 3), keepdim=True) * features


def grad_cam_map(features: Tensor, gradient: Tensor) -> Tensor:
    """Return max(0, Σ_k a_k · x_kij), the Grad-CAM map, for all channels at each position ij.

    It depends only on the position, so zeros at a relevant position are as relevant as other coefficients.

    Reference: Selvaraju et al. 2017, eq. 2.
    """
    return weighted_activation(features, gradient).sum(1, keepdim=True).clamp(min=0).expand_as(features)


def saliency(features: Tensor, gradient: Tensor) -> Tensor:
    """Return |∂y/∂x|: how much a small change of each coefficient would change the score.

    Reference: Adebayo et al. 2018; Carra & Neglia 2023, Sec. IV, on saliency in general.
    """
    return gradient.abs()


MEASURES: Mapping[str, Measure] = {
    "Grad-CAM, weight × activation": weighted_activation,
    "Grad-CAM, map of positions": grad_cam_map,
    "saliency, |gradient|": saliency,
}


@dataclass(frozen=True)
class Relevance:
    """Distributions of the most relevant coefficients and of all coefficients.

    Attributes:
        share: share of each image's coefficients that counts as relevant, 0…1.
        everything: distribution of all coefficients.
        relevant: for each measure, the distribution of the relevant coefficients, named after the measure.
    """

    share: float
    everything: Distribution
    relevant: tuple[Distribution, ...]


def class_gradients(tail: nn.Module, crossing: Sequence[Tensor], batch_size: int = 16) -> list[Tensor]:
    """Return the gradient of the predicted class's score for each crossing float tensor.

    The score y is the softmax of the class c that the tail predicts. The result is the gradient of its logit
    log(y / (1 − y)) = z_c − log Σ_{k≠c} exp z_k, which does not round to zero for confident predictions. ∂y/∂x is
    y·(1−y) times this gradient, so both give the same order of an image's coefficients.

    Args:
        tail: network from crossing tensors to class logits `(B, C)`, C at least 2.
        crossing: all crossing tensors, `(B, …)`.
        batch_size: number of images per batch.

    Raises:
        ValueError: if the tail gives no class logits, or they hold NaN or infinity.
    """
    parts: list[list[Tensor]] = []
    starts = range(0, len(crossing[0]), batch_size)
    for start in track(starts, "Gradients", transient=True):
        batch = [t[start : start + batch_size].detach().clone() for t in crossing]
        leaves = [t.requires_grad_() for t in batch if t.is_floating_point()]
        with torch.enable_grad():
            # a tail may change what it is given in place, which torch forbids of leaves: so copies
            scores = class_logits(tail(*(t.clone() for t in batch))).double()
            if scores.shape[1] < 2 or not torch.isfinite(scores).all():
                raise ValueError("relevance needs finite logits of two classes or more")
            best = scores.argmax(1, keepdim=True)
            others = scores.scatter(1, best, -math.inf).logsumexp(1)
            odds = scores.gather(1, best)[:, 0] - others
            parts.append(list(torch.autograd.grad(odds.sum(), leaves, materialize_grads=True)))
    return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


def most_relevant(relevance: Tensor, share: float = 0.1) -> Tensor:
    """Return a bool mask of each image's most relevant coefficients, shaped like `relevance`.

    Args:
        relevance: relevance of each coefficient `(B, …)`.
        share: share of the coefficients, above 0 and at most 1; their number is rounded up. Of equal ones, the first
            are chosen.

    Raises:
        ValueError: if the share is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie above 0 and at most at 1, got {share}")
    flat = relevance.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, : math.ceil(share * flat.shape[1])]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).view(relevance.shape)


def relevance(
    features: Tensor, gradient: Tensor, share: float = 0.1, measures: Mapping[str, Measure] = MEASURES
) -> Relevance:
    """Return the distribution of the most relevant coefficients of each image, for each measure of relevance.

    Args:
        features: `(B, C, H, W)`, finite.
        gradient: gradient of the predicted class's score from `class_gradients`, shaped like `features`.
        share: share of each image's coefficients that counts as relevant, above 0 and at most 1.
        measures: measures of relevance by name.

    Raises:
        ValueError: if the features are not `(B, C, H, W)`, there are none, or one is NaN or infinite.

    Reference:
        Carra & Neglia 2023, Sec. IV and Fig. 4.
    """
    features, gradient = checked_features(features, spatial=True), gradient.float().cpu()
    found = [
        distribution(features[most_relevant(measure(features, gradient), share)], name)
        for name, measure in measures.items()
    ]
    return Relevance(share, distribution(features, "all coefficients"), tuple(found))
