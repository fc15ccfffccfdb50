"""Relevance of coefficients for a classification, and distribution of the relevant ones."""

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
"""Features `(B, C, H, W)` and the gradient of the predicted class's score → relevance of each coefficient."""


def weighted_activation(features: Tensor, gradient: Tensor) -> Tensor:
    """Return a_k · x_kij with a_k the mean of channel k's gradient: each coefficient's part in the map of Grad-CAM.

    Reference: Selvaraju et al. 2017, eqs. 1 and 2, before the sum over channels and the ReLU.
    """
    return gradient.mean((2, 3), keepdim=True) * features


def grad_cam_map(features: Tensor, gradient: Tensor) -> Tensor:
    """Return max(0, Σ_k a_k · x_kij) for every coefficient at position ij: the map of Grad-CAM, for all channels.

    It knows positions alone: at a relevant one, zeros are as relevant as any other coefficient. Reference: Selvaraju et
    al. 2017, eq. 2.
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
    """Values of the most relevant coefficients, beside those of all.

    Attributes:
        share: of each image's coefficients that counts as relevant.
        everything: distribution of all coefficients.
        relevant: distribution of the relevant ones, one for each measure, named after it.
    """

    share: float
    everything: Distribution
    relevant: tuple[Distribution, ...]


def class_gradients(tail: nn.Module, crossing: Sequence[Tensor], batch_size: int = 16) -> list[Tensor]:
    """Return, for each float tensor that crosses, the gradient of the predicted class's score.

    The score y is the softmax of the class c that the tail predicts. Returned is the gradient of its logit
    log(y / (1 − y)) = z_c − log Σ_{k≠c} exp z_k: ∂y/∂x is y·(1−y) times that, a positive factor for each image, so the
    order of its coefficients is the same, and a confident prediction does not round to zero.

    Args:
        tail: crossing tensors → class logits `(B, C)`, C at least 2.
        crossing: all tensors that cross, `(B, …)`.
        batch_size: images at a time.

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
    """Return a mask of each image's most relevant coefficients.

    Args:
        relevance: `(B, …)`.
        share: how many, above 0 and at most 1; rounded up. Among equals at the limit the first ones are taken.

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
        gradient: of the predicted class's score, shaped like `features`, from `class_gradients`.
        share: of the coefficients of each image that counts as relevant.
        measures: by name.

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
