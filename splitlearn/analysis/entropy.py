"""Conditional entropies of symbols given their neighbours, estimated by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from splitlearn.analysis.coefficients import BITS
from splitlearn.analysis.distribution import checked_features
from splitlearn.quantizers import MinMax

ORDER_0 = "none"
PARENTS = {"channel": ORDER_0, "left": ORDER_0, "upper": ORDER_0, "left and upper": "left", "channel before": ORDER_0}
"""For each context, the smaller context whose prediction is used where its own counts are few."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ContextEntropy:
    """Cross-entropy of symbols with one context.

    Attributes:
        quantizer: label of the quantizer.
        levels: size of the alphabet.
        context: what the decoder knows before the symbol: "none", "channel" (its number), "left", "upper", "left and
            upper", or "channel before" (the symbol at the same position there).
        bits_per_element: mean of −log₂ of each symbol's probability, which is estimated from the other half of the
            images.
    """

    quantizer: str
    levels: int
    context: str
    bits_per_element: float


def context_entropies(symbols: Tensor, levels: int, quantizer: str = "") -> list[ContextEntropy]:
    """Return the cross-entropy of symbols with each context that their shape allows.

    Symbols are counted in every second image and coded in the others, then the other way round. Rare contexts thus cost
    bits, as in use; counting and coding the same images would hide this cost. Without context, a symbol has the
    probability (n_s + ½) / (N + levels/2). With a context c, it is (n_cs + levels/2 · p_s) / (n_c + levels/2), where p
    is the prediction of the next smaller context, so that rare contexts use its statistics. For large alphabets, a few
    images do not suffice to learn all contexts, and more images give fewer bits. Positions beyond the border of an
    image count as one more symbol.

    Args:
        symbols: uint8 `(B, C, H, W)`, or `(B, C, …)`, for which only "none" and "channel" apply; B at least 2.
        levels: size of the alphabet, 2…256.
        quantizer: label of the quantizer, for the results.

    Raises:
        ValueError: if there are fewer than two images, no symbols in them, or symbols that are not below `levels`.
    """
    if symbols.ndim < 2 or len(symbols) < 2 or not symbols.numel():
        raise ValueError(
            f"entropies need two images or more, one to count and one to code: symbols have {tuple(symbols.shape)}"
        )
    if not 2 <= levels <= 256 or int(symbols.max()) >= levels:
        raise ValueError(f"symbols must be below levels, and these in 2…256: got {int(symbols.max())} and {levels}")
    images = symbols.cpu().numpy()
    halves = [_Tables(images[0], levels), _Tables(images[0], levels)]
    for number, image in enumerate(images):
        halves[number % 2].count(image)
    bits = sum(halves[1 - number % 2].bits(image) for number, image in enumerate(images))
    return [
        ContextEntropy(quantizer, levels, context, float(total / images.size))
        for context, total in zip(halves[0].counts, np.asarray(bits), strict=True)
    ]


def min_max_entropies(features: Tensor, bits: Iterable[int] = BITS) -> list[ContextEntropy]:
    """Return the entropies of features after min–max quantization of each image, for each number of bits.

    Args:
        features: `(B, …)`, finite, B at least 2.
        bits: n of the quantizers, 2…8.

    Raises:
        ValueError: if there are fewer than two images, or one holds NaN or infinity.
    """
    features = checked_features(features)
    found = []
    for n in track(list(bits), "Entropies", transient=True):
        quantizer = MinMax(n)
        found += context_entropies(quantizer.quantize(features)[0], quantizer.levels, f"min–max, {n} bits")
    return found


class _Tables:
    """Counts of symbols with each context."""

    def __init__(self, image: NDArray[np.uint8], levels: int) -> None:
        self.levels = levels
        known = levels + 1  # a symbol, or none: beyond the border
        sizes = {ORDER_0: 1, "channel": len(image)}
        if image.ndim == 3:
            sizes |= {"left": known, "upper": known, "left and upper": known**2, "channel before": known}
        self.counts = {name: np.zeros((size, levels), np.int32) for name, size in sizes.items()}
        self.totals: dict[str, NDArray[np.int32]] = {}

    def count(self, image: NDArray[np.uint8]) -> None:
        """Add an image's symbols."""
        self.totals = {}
        for context, (name, counts) in zip(self._contexts(image), self.counts.items(), strict=True):
            if counts.size <= image.size:
                counts += np.bincount(context * self.levels + image.reshape(-1), minlength=counts.size).reshape(
                    counts.shape
                )
            else:
                np.add.at(self.counts[name].reshape(-1), context * self.levels + image.reshape(-1), 1)

    def bits(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the bits of an image with each context."""
        if not self.totals:
            self.totals = {name: counts.sum(1, dtype=np.int32) for name, counts in self.counts.items()}
        flat, strength = image.reshape(-1), self.levels / 2
        probabilities: dict[str, NDArray[np.float64]] = {}
        for context, (name, counts) in zip(self._contexts(image), self.counts.items(), strict=True):
            if name == ORDER_0:
                probabilities[name] = ((counts[0] + 0.5) / (counts.sum() + 0.5 * self.levels))[flat]
                continue
            seen = counts.reshape(-1)[context * self.levels + flat]
            prior = probabilities[PARENTS[name]]
            probabilities[name] = (seen + strength * prior) / (self.totals[name][context] + strength)
        return np.array([-np.log2(p).sum() for p in probabilities.values()])

    def _contexts(self, image: NDArray[np.uint8]) -> Sequence[Indices]:
        """Return the number of each symbol's context, flat, in the order of `counts`."""
        none = np.zeros(image.size, np.int64)
        channel = np.repeat(np.arange(len(image)), image.size // len(image))
        if image.ndim != 3:
            return [none, channel]
        left, upper, before = (self._before(image, axis) for axis in (2, 1, 0))
        return [none, channel, left, upper, left * (self.levels + 1) + upper, before]

    def _before(self, image: NDArray[np.uint8], axis: int) -> Indices:
        shifted = np.full(image.shape, self.levels, np.int64)
        np.moveaxis(shifted, axis, 0)[1:] = np.moveaxis(image, axis, 0)[:-1]
        return shifted.reshape(-1)
