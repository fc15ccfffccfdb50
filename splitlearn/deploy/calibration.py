"""Quantizers and code tables for a network that is not retrained, learnt from a few images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from splitlearn.codecs import Codec, ContextRANS
from splitlearn.models import SplitModel
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
    """How quantizers and tables are made.

    Attributes:
        levels: N of every quantizer.
        limits: rule for the clipping limits.
        per_channel: limits and levels for each channel, instead of one set for a tensor.
        stretches: factors on the distance of the limits to the mean that are tried. The one with the least distance of
            the predictions + rate_weight · bits per element is taken.
        rate_weight: what a bit an element is worth, in units of that distance.
        entropy_weight: λ of the entropy-constrained design over the latents' variance; None keeps levels uniform.
        lengths: code lengths of that design.
        codec: gets static tables, if it has any.
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
        if not self.stretches or min(self.stretches) <= 0:
            raise ValueError(f"stretches must be positive numbers, one or more, got {list(self.stretches)}")


@dataclass(frozen=True)
class Trial:
    """One stretch of the limits, as tried on the calibration images.

    Attributes:
        stretch: factor on the distance of the limits to the mean.
        distance: of the predictions to those of the unsplit network, see `prediction_distance`.
        bytes_per_image: mean bare code of all float tensors that cross, with the tables learnt from the same images.
        bits_per_element: these over the elements.
        cost: distance + rate_weight · bits_per_element.
    """

    stretch: float
    distance: float
    bytes_per_image: float
    bits_per_element: float
    cost: float


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        model: the given model with new quantizers and codecs; it shares network and bottlenecks with it.
        trials: all stretches, in the given order.
        chosen: the trial that `model` is made of.
        images: how many images were looked at.
    """

    model: SplitModel
    trials: tuple[Trial, ...]
    chosen: Trial
    images: int


@torch.inference_mode()
def calibrate(model: SplitModel, images: Tensor, settings: CalibrationSettings) -> Calibration:
    """Return the model with clipped quantizers and static tables learnt from images; labels are not needed.

    Where the smallest latent is the lower limit, as zero after ReLU, stretching moves the upper limit alone.

    Args:
        model: in eval mode; its own quantizers and codecs are not looked at.
        images: float `(B, 3, H, W)` in [0, 1], like those to come, but none of those to be tested on.
        settings: see there.

    Raises:
        ValueError: if there are no images, latents hold NaN or infinity or one repeated value, the rule for limits does
            not fit them, or `levels` is out of range.

    Reference: Cohen, Choi & Bajić 2020; the choice by predictions is ours.
    """
    if not len(images):
        raise ValueError("there are no images to calibrate with: give at least one")
    batches = [model.features(batch) for batch in torch.split(images, BATCH)]
    features = tuple(torch.cat(tensors) for tensors in zip(*batches, strict=True))
    latents = model.latents_of(features)
    statistics = [LatentStatistics.of(t, settings.per_channel and t.dim() > 2) for t in latents]
    found: list[tuple[Trial, SplitModel]] = []
    for stretch in track(settings.stretches, "Calibrating", transient=True):
        quantizers = [_quantizer(counted, stretch, settings) for counted in statistics]
        quantizers = [quantizer.to(t.device) for quantizer, t in zip(quantizers, latents, strict=True)]
        symbols = [q.quantize(t)[0].cpu().numpy() for q, t in zip(quantizers, latents, strict=True)]
        codecs = [settings.codec.fitted(list(s), settings.levels) for s in symbols]
        coded = model.coded_by(quantizers, codecs)
        size = sum(
            float(np.mean([len(codec.encode(image, settings.levels)) for image in s]))
            for codec, s in zip(codecs, symbols, strict=True)
        )
        bits = 8 * size / sum(t[0].numel() for t in latents)
        distance = _distance(coded, features)
        trial = Trial(stretch, distance, size, bits, distance + settings.rate_weight * bits)
        found.append((trial, coded))
    chosen, coded = min(found, key=lambda pair: pair[0].cost)
    return Calibration(coded.eval(), tuple(trial for trial, _ in found), chosen, len(images))


def prediction_distance(prediction: Any, reference: Any) -> float:
    """Return how far predictions are from others of the same images.

    For logits `(B, C)` it is the mean Kullback–Leibler divergence of the two softmaxes in nats. For any other output it
    is the mean, over all channels of its float tensors, of the squared error over the channel's variance: of no unit.

    Args:
        prediction: output of a network: a tensor, or tensors in lists, tuples and dicts.
        reference: likewise, of the same structure.
    """
    if isinstance(prediction, Tensor) and prediction.dim() == 2:
        logs, its_logs = (functional.log_softmax(t.float(), 1) for t in (prediction, reference))
        return float(functional.kl_div(logs, its_logs, reduction="batchmean", log_target=True))
    pairs = zip(pytree.tree_leaves(prediction), pytree.tree_leaves(reference), strict=True)
    shares = [
        _by_channel(p.float() - r.float()).square().mean(1) / _by_channel(r.float()).var(1).clamp(min=1e-12)
        for p, r in pairs
        if isinstance(r, Tensor) and r.is_floating_point() and r.numel() > 1
    ]
    return float(torch.cat(shares).mean())


def _by_channel(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).flatten(1) if tensor.dim() > 1 else tensor[None]


def _distance(model: SplitModel, features: tuple[Tensor, ...]) -> float:
    """Return the mean distance of the predictions through quantized latents to those from the features themselves."""
    total, count = 0.0, len(features[0])
    for start in range(0, count, BATCH):
        batch = tuple(t[start : start + BATCH] for t in features)
        total += prediction_distance(model.run_from(batch).prediction, model.net.tail(*batch)) * len(batch[0])
    return total / count


def _quantizer(statistics: LatentStatistics, stretch: float, settings: CalibrationSettings) -> Clipped:
    low, high = settings.limits.of(statistics, settings.levels)
    centre = statistics.mean
    low = torch.maximum(statistics.minimum, centre + stretch * (low - centre))
    high = torch.maximum(low, torch.minimum(statistics.maximum, centre + stretch * (high - centre)))
    if settings.entropy_weight is None:
        return Clipped.between(low, high, settings.levels)
    return entropy_constrained(statistics, low, high, settings.levels, settings.entropy_weight, settings.lengths)
