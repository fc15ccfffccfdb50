"""How sure an exit is of an image: the rule by which images leave early, and what makes it honest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional


class Confidence(nn.Module, ABC):
    """Maps the logits of an exit to numbers in [0, 1], the larger the surer; an image leaves above a threshold."""

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Return how sure each image's class is, `(B,)` in [0, 1], from logits `(B, num_classes)`."""


class MaximumSoftmax(Confidence):
    """The probability of the likeliest class.

    Reference:
        Beysens et al. 2023, Sec. III-B.
    """

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.softmax(1).amax(1)


class LowEntropy(Confidence):
    """One less the entropy of the class probabilities over its largest value, log num_classes.

    Reference:
        Teerapittayanon et al. 2016, "BranchyNet", Sec. III (which leaves below an entropy).
    """

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        probabilities = logits.softmax(1)
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(1)
        confidence: Tensor = 1 - entropy / math.log(max(2, logits.shape[1]))
        return confidence.clamp(0, 1)


class Margin(Confidence):
    """How much likelier the likeliest class is than the second."""

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        first, second = functional.pad(logits.softmax(1), (0, 1)).topk(2).values.unbind(1)  # a lone class has no second
        margin: Tensor = first - second
        return margin


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T for which softmax(logits / T) fits the labels best, in cross-entropy.

    The cross-entropy is convex in 1/T, whose root is found by bisection. Above 1, the exit had been too sure of itself.

    Args:
        logits: `(N, num_classes)`, of images that were not trained on.
        labels: int64 `(N,)`.

    Raises:
        ValueError: if there are no images, or a logit is not finite.

    Reference:
        Guo et al. 2017, "On calibration of modern neural networks", Sec. 4.2.
    """
    if not len(logits) or not bool(torch.isfinite(logits).all()):
        raise ValueError("a temperature needs logits of some images, all of them finite")
    wide = logits.double()
    true = wide.gather(1, labels[:, None])[:, 0]
    low, high = -10.0, 10.0  # of log₂ 1/T
    for _ in range(40):
        middle = (low + high) / 2
        expected = (wide * (wide * 2**middle).softmax(1)).sum(1)  # slope in 1/T: expected less true logit
        low, high = (low, middle) if bool((expected - true).mean() > 0) else (middle, high)
    return float(2.0 ** -((low + high) / 2))


def calibration_error(confidences: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over bins of equal width, weighted by their images.

    Args:
        confidences: `(N,)` in [0, 1].
        correct: bool `(N,)`, whether the class is right.
        bins: number of bins.

    Reference:
        Guo et al. 2017, eq. 3 (expected calibration error).
    """
    if not len(confidences):
        return math.nan
    place = (confidences * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=confidences.device)
    gaps.index_add_(0, place, confidences.double() - correct.double())
    return float(gaps.abs().sum() / len(confidences))
