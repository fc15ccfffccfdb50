"""Confidence measures of exits, and their calibration."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional


class Confidence(nn.Module, ABC):
    """Confidence measure of an exit: a number in [0, 1] per image; images above a threshold exit early."""

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Return the confidence of each image's class, `(B,)` in [0, 1], from logits `(B, num_classes)`."""


class MaximumSoftmax(Confidence):
    """Probability of the most likely class.

    Reference:
        Beysens et al. 2023, Sec. III-B.
    """

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.softmax(1).amax(1)


class LowEntropy(Confidence):
    """One minus the entropy of the class probabilities, relative to its maximum log num_classes.

    Reference:
        Teerapittayanon et al. 2016, "BranchyNet", Sec. III (with a threshold on the entropy itself).
    """

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        probabilities = logits.softmax(1)
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(1)
        confidence: Tensor = 1 - entropy / math.log(max(2, logits.shape[1]))
        return confidence.clamp(0, 1)


class Margin(Confidence):
    """Difference between the probabilities of the most and the second most likely class."""

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        first, second = functional.pad(logits.softmax(1), (0, 1)).topk(2).values.unbind(1)  # a lone class has no second
        margin: Tensor = first - second
        return margin


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T that minimizes the cross-entropy of softmax(logits / T).

    The cross-entropy is convex in 1/T, so bisection of its slope finds the minimum. T > 1 means that the exit was
    overconfident.

    Args:
        logits: `(N, num_classes)`, of images outside the training set.
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
    """Return the expected calibration error: mean |confidence − accuracy| over bins of equal width, weighted by size.

    Args:
        confidences: `(N,)` in [0, 1].
        correct: bool `(N,)`, whether the predicted class is correct.
        bins: number of bins.

    Reference:
        Guo et al. 2017, eq. 3.
    """
    if not len(confidences):
        return math.nan
    place = (confidences * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=confidences.device)
    gaps.index_add_(0, place, confidences.double() - correct.double())
    return float(gaps.abs().sum() / len(confidences))
