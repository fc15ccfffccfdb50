"""Scores and bytes of a network without retraining, for many quantizers and codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlearn.analysis.codec_comparison import entropy_bytes
from splitlearn.codecs import CodecError
from splitlearn.models import SplitModel

ENTROPY = "order-0 entropy"
Score = Callable[[Iterable[Any]], float]
"""Function of the predictions of all batches, in the order of the images, that returns accuracy or precision, 0…1."""


@dataclass(frozen=True)
class RatePoint:
    """Score and bytes of one quantizer and codec on one set of images.

    Attributes:
        method: name of the curve that the point belongs to.
        setting: name that distinguishes the points of one method.
        codec: label of the codec; `ENTROPY` for the order-0 entropy, an estimate.
        levels: size of the alphabet.
        score: accuracy or mean average precision with this quantizer, 0…1.
        bytes_per_image: mean payload size in bytes, headers included.
        bits_per_element: bits of the payload divided by the number of elements of the crossing float tensors.
        table_bytes: size in bytes of levels and static tables, which are sent once.
    """

    method: str
    setting: str
    codec: str
    levels: int
    score: float
    bytes_per_image: float
    bits_per_element: float
    table_bytes: int


def measure_rates(
    method: str,
    setting: str,
    models: Mapping[str, SplitModel],
    batches: Iterable[tuple[Tensor, ...]],
    score: Score,
) -> list[RatePoint]:
    """Return a point for the order-0 entropy of each image's symbols, then one point per codec.

    The score is measured with the differentiable pass. Decoded payloads give the same features bit for bit,
    which is checked for the first batch.

    Args:
        method: label of the kind of quantizer.
        setting: label of its setting.
        models: models with the same network and quantizers and different codecs, by label of the codec.
        batches: crossing tensors of all images, batch by batch, from `SplitModel.features`.
        score: function that returns the score of all predictions.

    Raises:
        CodecError: if a codec is not lossless.
        ValueError: if there are no images, or a latent cannot be quantized.
    """
    first = next(iter(models.values()))
    sizes = dict.fromkeys(models, 0)
    entropy = images = elements = 0.0

    def predictions() -> Iterator[Any]:
        nonlocal entropy, images, elements
        for number, features in enumerate(batches):
            for label, model in models.items():
                payloads = model.coder.compress(features)
                sizes[label] += sum(map(len, payloads))
                if number == 0:
                    _check(label, model, features, payloads)
            symbols = first.coder.symbols(first.coder.latents(features))
            entropy += sum(entropy_bytes(image) for tensor in symbols for image in tensor.cpu().numpy())
            images += len(features[0])
            elements += sum(tensor.numel() for tensor in symbols)
            with torch.inference_mode():
                prediction = first.run_from(features).prediction
            yield prediction

    value = score(predictions())
    if not images:
        raise ValueError("there are no images to measure")
    levels = max(quantizer.levels for quantizer in first.coder.quantizers)
    totals = {ENTROPY: entropy} | sizes
    return [
        RatePoint(
            method,
            setting,
            label,
            levels,
            value,
            bytes_per_image=total / images,
            bits_per_element=8 * total / elements,
            table_bytes=models[label].table_bytes if label in models else 0,
        )
        for label, total in totals.items()
    ]


def cheapest(points: Iterable[RatePoint], least_score: float) -> RatePoint | None:
    """Return the point with the fewest bytes and a score of `least_score` or more; None if there is none."""
    good = [point for point in points if point.score >= least_score]
    return min(good, key=lambda point: point.bytes_per_image, default=None)


def _check(label: str, model: SplitModel, features: tuple[Tensor, ...], payloads: Sequence[bytes]) -> None:
    """Raise CodecError if payloads do not decode to the quantized latents."""
    quantized = [q(latent) for q, latent in zip(model.coder.quantizers, model.coder.latents(features), strict=True)]
    decoded = [t for t in model.coder.latents_hat(payloads) if t.is_floating_point()]
    if not all(torch.equal(a, b) for a, b in zip(decoded, quantized, strict=True)):
        raise CodecError(f"{label} is not lossless: a latent came back changed")
