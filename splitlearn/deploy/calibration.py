"""Calibration of quantizers and code tables for a trained network, from a few images without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from splitlearn.codecs import Codec, ContextRANS
from splitlearn.models import CoderModel
from splitlearn.quantizers import (
    Clipped,
    CodeLengths,
    IdealLengths,
    LatentStatistics,
    LeastError,
    Limits,
    entropy_constrained,
)

BATCH = 32


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of a calibration.

    Attributes:
        levels: N, number of levels of every quantizer, 2…256.
        limits: rule for the clipping limits.
        per_channel: clipping limits and levels for each channel, instead of one set per tensor.
        stretches: factors to try; each multiplies the distance from the latent's mean to the clipping limits. The
            factor with the smallest cost, `prediction_distance` + rate_weight · bits per element, is chosen.
        rate_weight: how much `prediction_distance` one bit per element is worth (nats for classifiers).
        entropy_weight: weight of the bits when levels are optimized: 0.01 accepts a squared error of 1 % of the
            latents' variance to save one bit per element. None gives evenly spaced levels.
        lengths: rule for the code length of each symbol, in bits; used only with `entropy_weight`.
        codec: codec of the calibrated model; its static tables, if it has any, are fitted.

    Raises:
        ValueError: if a number is out of range.
    """

    levels: int = 4
    limits: Limits = field(default_factory=LeastError)
    per_channel: bool = True
    stretches: Sequence[float] = (1.0,)
    rate_weight: float = 0.0
    entropy_weight: float | None = None
    lengths: CodeLengths = field(default_factory=IdealLengths)
    codec: Codec = field(default_factory=ContextRANS)

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must lie in 2…256, got {self.levels}")
        if not all(0 <= weight < math.inf for weight in (self.rate_weight, self.entropy_weight or 0.0)):
            weights = f"{self.rate_weight} and {self.entropy_weight}"
            raise ValueError(f"rate_weight and entropy_weight must be numbers and not negative, got {weights}")
        if not self.stretches or not all(0 < stretch < math.inf for stretch in self.stretches):
            raise ValueError(f"stretches must be positive numbers, one or more, got {list(self.stretches)}")


@dataclass(frozen=True)
class StretchTrial:
    """Result of one stretch factor for the clipping limits, on the calibration images.

    Attributes:
        stretch: factor that multiplies the distance from the latent's mean to the clipping limits.
        distance: `prediction_distance` to the predictions from unquantized features.
        bytes_per_image: mean size of all crossing float tensors after encoding, in bytes, without container headers,
            with tables fitted to the same images.
        bits_per_element: `bytes_per_image`, in bits per element of the latents.
        cost: distance + rate_weight · bits_per_element.
    """

    stretch: float
    distance: float
    bytes_per_image: float
    bits_per_element: float
    cost: float


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration.

    Attributes:
        model: the given model with new quantizers and codecs; network and bottlenecks are shared.
        trials: results of all stretches, in the given order.
        chosen: the trial of `model`.
        images: number of calibration images.
    """

    model: CoderModel
    trials: tuple[StretchTrial, ...]
    chosen: StretchTrial
    images: int


@torch.no_grad()
def calibrate(model: CoderModel, images: Tensor, settings: CalibrationSettings) -> Calibration:
    """Return the model with clipped quantizers and static tables fitted to images without labels.

    The rule `settings.limits` chooses clipping limits. Then the distances of these limits from the latent's mean are
    multiplied by each factor in `settings.stretches` in turn, and the factor with the smallest cost (see
    `CalibrationSettings`) is kept. Limits stay between the smallest and the largest value of the latents. Where the
    lower limit is the smallest value, such as zero after ReLU, factors of 1 or more therefore move only the upper
    limit.

    Args:
        model: a model in eval mode; its quantizers and codecs are not used.
        images: float `(B, 3, H, W)` in [0, 1], representative but not from the test set; 256 are typical.
        settings: settings of the calibration.

    Raises:
        ValueError: if there are no images, latents contain NaN or infinity or are all equal, the rule for limits cannot
            be applied to them, or predictions are not finite or differ in shape.

    Reference:
        Cohen, Choi & Bajić 2020; the choice of the factor by `prediction_distance` is not in the paper.
    """
    if not len(images):
        raise ValueError("there are no images to calibrate with: give at least one")
    batches = [model.features(batch) for batch in torch.split(images, BATCH)]
    features = tuple(torch.cat(tensors) for tensors in zip(*batches, strict=True))
    latents = model.coder.latents(features)
    statistics = [LatentStatistics.of(t, settings.per_channel and t.dim() > 2) for t in latents]
    if not any(bool(counted.variance.any()) for counted in statistics):
        raise ValueError(
            "every latent of the calibration images holds one repeated value, so there is nothing to quantize: "
            "check the weights, or cut at another module"
        )
    found: list[tuple[StretchTrial, CoderModel]] = []
    for stretch in track(settings.stretches, "Calibrating", transient=True):
        quantizers = [_quantizer(counted, stretch, settings) for counted in statistics]
        quantizers = [quantizer.to(t.device) for quantizer, t in zip(quantizers, latents, strict=True)]
        symbols = [_symbols(q, t) for q, t in zip(quantizers, latents, strict=True)]
        codecs = [settings.codec.fitted(list(s), settings.levels) for s in symbols]
        coded = model.coded_by(quantizers, codecs)
        size = sum(
            float(np.mean([len(codec.encode(image, settings.levels)) for image in s]))
            for codec, s in zip(codecs, symbols, strict=True)
        )
        bits = 8 * size / sum(t[0].numel() for t in latents)
        distance = _distance(coded, features)
        trial = StretchTrial(stretch, distance, size, bits, distance + settings.rate_weight * bits)
        found.append((trial, coded))
    chosen, coded = min(found, key=lambda pair: pair[0].cost)
    return Calibration(coded.eval(), tuple(trial for trial, _ in found), chosen, len(images))


@torch.no_grad()
def prediction_distance(prediction: Any, reference: Any) -> float:
    """Return the distance between two predictions for the same images.

    For logits `(B, C)` it is the mean Kullback–Leibler divergence of the two softmaxes in nats. For other outputs it is
    the mean squared error of each channel relative to its variance, averaged over all channels of float tensors.

    Args:
        prediction: output of a network: a tensor, or tensors in lists, tuples and dicts.
        reference: reference output of the same structure.

    Raises:
        ValueError: if there are no floats to compare, or their shapes differ.
    """
    found, wanted = _floats(prediction), _floats(reference)
    if not wanted or [t.shape for t in found] != [t.shape for t in wanted]:
        shapes = " and ".join(str([tuple(t.shape) for t in tensors]) for tensors in (found, wanted))
        raise ValueError(
            f"predictions cannot be compared, their float tensors have shapes {shapes}: calibrate a network whose "
            "output has one shape for every image, such as logits, or boxes before the best are selected"
        )
    if isinstance(prediction, Tensor) and prediction.dim() == 2 and prediction.shape[1] > 1:
        logs, its_logs = (functional.log_softmax(t.float(), 1) for t in (prediction, reference))
        return float(functional.kl_div(logs, its_logs, reduction="batchmean", log_target=True))
    pairs = zip(map(_by_channel, found), map(_by_channel, wanted), strict=True)
    return float(torch.cat([(p - r).square().mean(1) / _variance(r).clamp(min=1e-12) for p, r in pairs]).mean())


def _floats(tree: Any) -> list[Tensor]:
    """Return the float tensors of an output with more than one element."""
    leaves = pytree.tree_leaves(tree)
    return [t.float() for t in leaves if isinstance(t, Tensor) and t.is_floating_point() and t.numel() > 1]


def _variance(channels: Tensor) -> Tensor:
    """Return the variance of each channel, or of all together if channels have a single element."""
    return channels.var(1) if channels.shape[1] > 1 else channels.var()


def _by_channel(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).flatten(1) if tensor.dim() > 1 else tensor[None]


def _distance(model: CoderModel, features: tuple[Tensor, ...]) -> float:
    """Return the mean distance between predictions from quantized latents and from unquantized features."""
    total, count = 0.0, len(features[0])
    for start in range(0, count, BATCH):
        batch = tuple(t[start : start + BATCH] for t in features)
        reference = model.net.tail(*model.net.wanted(batch))
        total += prediction_distance(model.run_from(batch).prediction, reference) * len(batch[0])
    if not math.isfinite(total):
        raise ValueError("the network's predictions hold NaN or infinity: check its weights and its normalization")
    return total / count


def _symbols(quantizer: Clipped, latents: Tensor) -> NDArray[np.uint8]:
    """Return the symbols of all images, in batches because the search needs many times their memory."""
    return np.concatenate([quantizer.quantize(batch)[0].cpu().numpy() for batch in torch.split(latents, BATCH)])


def _quantizer(statistics: LatentStatistics, stretch: float, settings: CalibrationSettings) -> Clipped:
    low, high = settings.limits.of(statistics, settings.levels)
    centre = statistics.mean
    low = torch.maximum(statistics.minimum, centre + stretch * (low - centre))
    high = torch.maximum(low, torch.minimum(statistics.maximum, centre + stretch * (high - centre)))
    if settings.entropy_weight is None:
        return Clipped.between(low, high, settings.levels)
    return entropy_constrained(statistics, low, high, settings.levels, settings.entropy_weight, settings.lengths)
