"""Accuracy and bytes of a network with early exits at any threshold, from one pass over the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splitlearn.codecs import RANS, Codec, CompressedSparseRow, ContextRANS, Huffman, Raw
from splitlearn.models import EarlyExitModel, calibration_error, fit_temperature
from splitlearn.quantizers import histogram

Batches = Iterable[tuple[Tensor, Any]]
CODECS: dict[str, Codec] = {
    "raw": Raw(),
    "CSR": CompressedSparseRow(),
    "Huffman": Huffman(),
    "RANS": RANS(),
    "ContextRANS": ContextRANS(),
}
"""Codecs of the paper and of splitlearn, by label."""
COLLAPSED = 1.5  # times the accuracy of a guess


@dataclass(frozen=True)
class ThresholdPoint:
    """Accuracy and bytes at one threshold.

    Attributes:
        threshold: confidence above which an image leaves at an exit; T_c in the paper.
        accuracy: top-1 accuracy, 0…1, with each image at the exit that it takes.
        exit_share: share of images that exited early, 0…1.
        bytes_per_image: mean payload size in bytes, one value for each codec, by its label; an image that exited early
            counts as 0.
    """

    threshold: float
    accuracy: float
    exit_share: float
    bytes_per_image: Mapping[str, float]


@dataclass(frozen=True)
class ExitScores:
    """Logits and confidences of all exits for all images, and the payload size of each image.

    Attributes:
        logits: `(N, E + 1, num_classes)` of E early exits and the final one.
        confidences: `(N, E)`, confidence of each early exit.
        labels: int64 `(N,)`.
        sizes: for each codec, by its label: payload size of each image in bytes, `(N,)`, headers included.
        entropy_bits: order-0 entropy of all images together, in bits per symbol.
        values: number of symbols per image.
    """

    logits: Tensor
    confidences: Tensor
    labels: Tensor
    sizes: Mapping[str, Tensor]
    entropy_bits: float
    values: int

    @property
    def accuracies(self) -> list[float]:
        """Accuracy of each exit on all images; the final exit is the last."""
        hits: list[float] = self._correct().double().mean(0).tolist()
        return hits

    @property
    def collapsed(self) -> bool:
        """Whether the accuracy of the final exit is near chance, as with too large a rate weight."""
        return self.accuracies[-1] < COLLAPSED / self.logits.shape[2]

    def at(self, threshold: float) -> ThresholdPoint:
        """Return accuracy and bytes with one confidence threshold for all exits.

        Raises:
            ValueError: if the threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"a threshold must lie in [0, 1], got {threshold}")
        sure = self.confidences > threshold if threshold > 0 else torch.ones_like(self.confidences, dtype=torch.bool)
        never = torch.ones(len(sure), 1, dtype=torch.bool)
        left = torch.cat([sure, never], 1).int().argmax(1)  # the first exit that is sure
        hits = self._correct().gather(1, left[:, None]).double().mean()
        sent = (left == self.confidences.shape[1]).double()
        mean_sizes = {name: float((sent * sizes).mean()) for name, sizes in self.sizes.items()}
        return ThresholdPoint(threshold, float(hits), 1 - float(sent.mean()), mean_sizes)

    def cheapest(self, accuracy: float, codec: str, steps: int = 1000) -> ThresholdPoint | None:
        """Return the point that reaches an accuracy with the fewest bytes; None if none does.

        Args:
            accuracy: share of images, 0…1.
            codec: label of the codec whose bytes count.
            steps: number of thresholds to try, at quantiles of the confidences.
        """
        quantiles = np.quantile(self.confidences.numpy(), np.linspace(0, 1, steps))
        points = map(self.at, [0.0, *np.unique(quantiles).clip(0, 1).tolist(), 1.0])
        enough = [point for point in points if point.accuracy >= accuracy]
        return min(enough, key=lambda point: point.bytes_per_image[codec], default=None)

    def calibration(self, exit_number: int, temperature: float = 1.0) -> float:
        """Return the expected calibration error of an early exit whose logits are divided by a temperature."""
        found, classes = (self.logits[:, exit_number] / temperature).softmax(1).max(1)
        return calibration_error(found, classes == self.labels)

    def temperature(self, exit_number: int) -> float:
        """Return the temperature that fits an early exit to these labels."""
        return fit_temperature(self.logits[:, exit_number], self.labels)

    def _correct(self) -> Tensor:
        return self.logits.argmax(2) == self.labels[:, None]


def static_codecs(model: EarlyExitModel, batches: Iterable[Tensor]) -> dict[str, list[Codec]]:
    """Return all codecs of `CODECS` with static tables fitted to images: one per float tensor that crosses.

    Args:
        model: the model, in eval mode.
        batches: images in [0, 1]; no test images.
    """
    symbols = [model.symbols(images) for images in batches]
    arrays = [torch.cat(parts).cpu().numpy() for parts in zip(*symbols, strict=True)]
    return {
        name: [codec.fitted(iter(a), q.levels) for a, q in zip(arrays, model.coder.quantizers, strict=True)]
        for name, codec in CODECS.items()
    }


@torch.inference_mode()
def score_exits(model: EarlyExitModel, batches: Batches, codecs: Mapping[str, Sequence[Codec]]) -> ExitScores:
    """Run all images through all exits; encode, decode and check the symbols of each image.

    Args:
        model: the model, in eval mode.
        batches: images in [0, 1] and their labels.
        codecs: for each label, one codec per float tensor that crosses the cut.

    Raises:
        RuntimeError: if decoded symbols differ from the encoded ones.
    """
    logits, labels = [], []
    counts = torch.zeros(len(model.coder.quantizers), 256, dtype=torch.long)
    coded = {name: model.coded_by(model.coder.quantizers, several) for name, several in codecs.items()}
    sizes: dict[str, list[int]] = {name: [] for name in codecs}
    for images, targets in batches:
        output = model.run(images)
        logits.append(torch.stack([*output.exits, output.prediction], 1).cpu())
        labels.append(targets.cpu())
        for row, symbols in zip(counts, model.coder.symbols(output.latents), strict=True):
            row += histogram(symbols, 256).sum(0).cpu()
        for name, each in coded.items():
            payloads = each.coder.compress(output.features)
            received = [t for t in each.coder.latents_hat(payloads) if t.is_floating_point()]
            if not all(map(torch.equal, received, model.coder.quantized(output.latents))):
                raise RuntimeError(f"{name} has not given back what it was given")
            sizes[name] += map(len, payloads)
    found, right = torch.cat(logits), torch.cat(labels)
    confidences = [
        model.confidence(found[:, number] / model.temperatures[number].cpu()) for number in range(len(model.exits))
    ]
    shares, weights = counts / counts.sum(1, keepdim=True), counts.sum(1)
    entropies = -torch.special.xlogy(shares, shares).sum(1) / math.log(2)
    return ExitScores(
        found,
        torch.stack(confidences, 1),
        right,
        {name: torch.tensor(rows, dtype=torch.float64) for name, rows in sizes.items()},
        float((entropies * weights).sum() / weights.sum()),
        int(weights.sum() // len(right)),
    )
