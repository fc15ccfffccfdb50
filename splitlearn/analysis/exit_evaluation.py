"""Evaluation of a trained network with early exits in INT8, at all thresholds and with all codecs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from splitlearn.analysis.exit_scores import ExitScores, score_exits, static_codecs
from splitlearn.analysis.partition import Partition, partition
from splitlearn.data import ImageDataModule
from splitlearn.models import EarlyExitModel, to_int8

THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
CALIBRATION = 4  # every fourth validation image, as in the paper


@dataclass(frozen=True)
class Evaluation:
    """Results of a trained model in float and in INT8.

    Attributes:
        shares: weights and multiply–accumulates of the device and the edge server.
        float_accuracies: accuracies of all exits, 0…1, before quantization; the final exit is the last.
        scores: scores in INT8 on the test images.
        validation: scores in INT8 on the validation images, to which temperatures are fitted.
        table_bytes: size in bytes of the static tables and calibrated levels of each codec, sent once.
        layers: number of layers in INT8.
        float_layers: number of layers in float.
    """

    shares: Partition
    float_accuracies: Sequence[float]
    scores: ExitScores
    validation: ExitScores
    table_bytes: Mapping[str, int]
    layers: int
    float_layers: int

    def cheapest(self, accuracies: Sequence[float]) -> dict[str, dict[str, Any]]:
        """Return, for each accuracy and codec, the threshold that reaches it with the fewest bytes, as plain data."""
        found: dict[str, dict[str, Any]] = {}
        for accuracy in accuracies:
            points = {name: self.scores.cheapest(accuracy, name) for name in self.scores.sizes}
            found[f"{accuracy:g}"] = {name: point and asdict(point) for name, point in points.items()}
        return found

    def summary(self) -> dict[str, Any]:
        """Return all results as plain data."""
        scores = self.scores
        exits = range(scores.confidences.shape[1])
        temperatures = [self.validation.temperature(number) for number in exits]
        return {
            "accuracies": scores.accuracies,
            "float_accuracies": list(self.float_accuracies),
            "collapsed": scores.collapsed,
            "entropy_bits": scores.entropy_bits,
            "values": scores.values,
            "bytes": {name: float(sizes.mean()) for name, sizes in scores.sizes.items()},
            "table_bytes": dict(self.table_bytes),
            "partition": asdict(self.shares),
            "int8_layers": self.layers,
            "float_layers": self.float_layers,
            "temperatures": temperatures,
            "calibration_errors": [scores.calibration(number) for number in exits],
            "calibrated_errors": [scores.calibration(n, t) for n, t in zip(exits, temperatures, strict=True)],
            "points": [asdict(scores.at(threshold)) for threshold in THRESHOLDS],
        }


def evaluate_exits(model: EarlyExitModel, data: ImageDataModule) -> Evaluation:
    """Quantize a copy of a trained model in eval mode to INT8, and score both on the test images.

    Scales and static tables are fitted to a quarter of the validation images, evenly spaced.
    """
    shares = partition(model)
    device = next(model.parameters()).device
    batches = data.batches("test")
    plain = score_exits(model, ((images.to(device), labels) for images, labels in batches), {})
    calibration = list(_every(data, CALIBRATION))
    quantized = to_int8(model, calibration)
    codecs = static_codecs(quantized.model, calibration)
    coded = {
        name: quantized.model.coded_by(quantized.model.coder.quantizers, several) for name, several in codecs.items()
    }
    return Evaluation(
        shares,
        plain.accuracies,
        score_exits(quantized.model, data.batches("test"), codecs),
        score_exits(quantized.model, data.batches("val"), {}),
        {name: each.table_bytes for name, each in coded.items()},
        quantized.layers,
        quantized.float_layers,
    )


def _every(data: ImageDataModule, step: int) -> list[Tensor]:
    """Return batches of every `step`-th validation image, since images may be sorted by class."""
    chosen, start = [], 0
    for images, _ in data.batches("val"):
        chosen.append(images[-start % step :: step])
        start += len(images)
    whole = torch.cat(chosen)
    return [whole[i : i + data.batch_size] for i in range(0, len(whole), data.batch_size)]
