"""Distribution of the coefficients at a cut, and share of zeros after quantization."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from splitlearn.analysis.distribution import Distribution, checked_features, distribution
from splitlearn.quantizers import MinMax, histogram

BITS = range(2, 9)
ALL_IMAGES = "all images"


@dataclass(frozen=True)
class QuantizedZeros:
    """Shares of zeros and of the commonest symbol after min–max quantization.

    Attributes:
        bits: n of the quantizer.
        zeros: share of coefficients with symbol 0, the level of each image's smallest value, which run lengths code.
        commonest: share of coefficients with the commonest symbol of their image. It is larger than `zeros` if the
            commonest value is not the smallest, as without ReLU.
    """

    bits: int
    zeros: float
    commonest: float


def coefficients(features: Tensor, samples: int = 4) -> list[Distribution]:
    """Return the distribution of the coefficients of all images together, then of some images.

    Args:
        features: `(B, …)`, finite.
        samples: number of single images, evenly spaced; fewer if there are not so many.

    Raises:
        ValueError: if there are no features, or one is NaN or infinite.

    Reference:
        Carra & Neglia 2023, Fig. 1.
    """
    features = checked_features(features)
    single = [distribution(features[i], f"image {i}") for i in spread(len(features), samples)]
    return [distribution(features, ALL_IMAGES), *single]


def spread(count: int, samples: int) -> list[int]:
    """Return `samples` evenly spaced indices below `count`, first and last included; all if there are not so many."""
    return torch.linspace(0, count - 1, min(samples, count)).round().long().tolist() if count else []


def quantized_zeros(features: Tensor, bits: Iterable[int] = BITS) -> list[QuantizedZeros]:
    """Return the share of zeros after min–max quantization of each image, for each number of bits.

    Args:
        features: `(B, …)`, finite.
        bits: n of the quantizers, 2…8.

    Raises:
        ValueError: if there are no features, one is NaN or infinite, or a number of bits is not in 2…8.

    Reference:
        Carra & Neglia 2023, Secs. V and VI.
    """
    features = checked_features(features)
    found = []
    for n in bits:
        quantizer = MinMax(n)
        zeros = commonest = 0
        for image in features:  # one at a time: the indices of all that are counted would take twice their memory
            counts = histogram(quantizer.quantize(image[None])[0], quantizer.levels)[0]
            zeros, commonest = zeros + int(counts[0]), commonest + int(counts.max())
        found.append(QuantizedZeros(n, zeros / features.numel(), commonest / features.numel()))
    return found
