"""`splitlearn exits`: a trained network with exits over all thresholds, in INT8, with all codecs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from splitlearn.analysis.exit_scores import CODECS, ExitScores, ThresholdPoint, score_exits, static_codecs
from splitlearn.analysis.partition import Partition, partition
from splitlearn.data import ImageDataModule
from splitlearn.files import whole_file, write_json
from splitlearn.models import EarlyExitModel, to_int8
from splitlearn.reporting.rate_plots import Panel, plot_panels
from splitlearn.reporting.terminal import print_whole

KB = 1024
THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
CALIBRATION = 4  # every fourth validation image, as in the paper


@dataclass(frozen=True)
class Evaluation:
    """A trained model as it is and in INT8.

    Attributes:
        shares: what device and server hold and compute.
        float_accuracies: of all exits, final one last, before quantization.
        scores: in INT8.
        validation: scores on the validation images, which temperatures are fitted to.
        table_bytes: static tables of each codec, sent once.
        layers: how many layers compute in INT8.
        float_layers: how many do not.
    """

    shares: Partition
    float_accuracies: Sequence[float]
    scores: ExitScores
    validation: ExitScores
    table_bytes: Mapping[str, int]
    layers: int
    float_layers: int

    def cheapest(self, accuracies: Sequence[float]) -> dict[str, dict[str, Any]]:
        """Return for each accuracy the point of each codec that reaches it with the fewest bytes, as plain data."""
        found: dict[str, dict[str, Any]] = {}
        for accuracy in accuracies:
            points = {name: self.scores.cheapest(accuracy, name) for name in self.scores.sizes}
            found[f"{accuracy:g}"] = {name: point and asdict(point) for name, point in points.items()}
        return found

    def summary(self) -> dict[str, Any]:
        """Return the figures of a table's row, as plain data."""
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
    """Quantize a trained model to INT8 and score it on the test images.

    Scales and static tables come from a quarter of the validation images, spread evenly.

    Args:
        model: in eval mode; it is left as it was.
        data: set up for validation and test.
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


def exits_command(
    model: EarlyExitModel, data: ImageDataModule, accuracies: Sequence[float], out: Path, about: Mapping[str, Any]
) -> None:
    """Print the tables of a trained model; write exits.json, exits.csv and exits.png to `out`.

    Args:
        model: trained, in eval mode.
        data: its images; not yet set up.
        accuracies: shares of images for which the cheapest thresholds are looked up.
        out: folder, made if absent.
        about: machine, versions, command, date: goes into the JSON file.
    """
    data.prepare_data()
    data.setup("validate")
    data.setup("test")
    found = evaluate_exits(model.to("cuda" if torch.cuda.is_available() else "cpu"), data)
    console, summary = Console(), found.summary()
    print_whole(_sizes_table(found))
    points = [found.scores.at(threshold) for threshold in THRESHOLDS]
    print_whole(_points_table(points))
    console.print(_words(summary), soft_wrap=True)
    cheapest = found.cheapest(accuracies)
    for accuracy, each in cheapest.items():
        console.print(_cheapest_words(float(accuracy), each), soft_wrap=True)
    write_json(out / "exits.json", {**about, **summary, "cheapest": cheapest})
    with whole_file(out / "exits.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["threshold", "accuracy", "exit_share", *(f"{name}_bytes" for name in CODECS)])
        writer.writerows([[p.threshold, p.accuracy, p.exit_share, *p.bytes_per_image.values()] for p in points])
    curves = {
        name: [(p.bytes_per_image[name] / KB, 100 * p.accuracy) for p in points] for name in CODECS if name != "CSR"
    }
    panel = Panel("", curves, "KB an image (mean, those that left early count as 0)", "accuracy (%)")
    plot_panels([panel], out / "exits.png", f"{model.net.name} cut after {model.net.at}, INT8")
    console.print(f"{out}: exits.json, exits.csv and exits.png written", soft_wrap=True)


def _every(data: ImageDataModule, step: int) -> list[Tensor]:
    """Return batches of every `step`-th validation image: they are sorted by class."""
    chosen, start = [], 0
    for images, _ in data.batches("val"):
        chosen.append(images[-start % step :: step])
        start += len(images)
    whole = torch.cat(chosen)
    return [whole[i : i + data.batch_size] for i in range(0, len(whole), data.batch_size)]


def _sizes_table(found: Evaluation) -> Table:
    table = Table("codec", "KB/image", "bits/value", "tables, once (B)", title="each image sent, INT8")
    for name, sizes in found.scores.sizes.items():
        mean = float(sizes.mean())
        bits = 8 * mean / found.scores.values
        table.add_row(name, f"{mean / KB:.2f}", f"{bits:.2f}", f"{found.table_bytes[name]:,}")
    return table


def _points_table(points: Sequence[ThresholdPoint]) -> Table:
    table = Table("T_c", "accuracy %", "left early %", *(f"{name} KB" for name in CODECS), title="over the threshold")
    for p in points:
        sizes = (f"{p.bytes_per_image[name] / KB:.2f}" for name in CODECS)
        table.add_row(f"{p.threshold:g}", f"{100 * p.accuracy:.2f}", f"{100 * p.exit_share:.1f}", *sizes)
    return table


def _words(summary: Mapping[str, Any]) -> str:
    shares = summary["partition"]
    pairs = zip(summary["float_accuracies"], summary["accuracies"], strict=True)
    lines = [
        "accuracy of each exit on all images, float → INT8: "
        + ", ".join(f"{100 * before:.2f} → {100 * after:.2f} %" for before, after in pairs)
        + (" (collapsed: no better than a guess)" if summary["collapsed"] else ""),
        f"entropy of the symbols {summary['entropy_bits']:.2f} bits each; {summary['int8_layers']} layers in INT8, "
        f"{summary['float_layers']} in float",
        f"device {4 * shares['device_weights'] / KB:,.1f} KB of float32 weights (exits "
        f"{4 * shares['exit_weights'] / KB:,.1f}), {shares['device_macs'] / 1e6:.1f} M MAC; "
        f"server {4 * shares['edge_weights'] / KB:,.1f} KB, {shares['edge_macs'] / 1e6:.1f} M MAC",
        "calibration error of each exit, and with the temperature fitted on validation images: "
        + ", ".join(
            f"{before:.3f} → {after:.3f} at T = {temperature:.2f}"
            for before, after, temperature in zip(
                summary["calibration_errors"], summary["calibrated_errors"], summary["temperatures"], strict=True
            )
        ),
    ]
    return "\n".join(lines)


def _cheapest_words(accuracy: float, points: Mapping[str, Any]) -> str:
    if None in points.values():
        return f"{100 * accuracy:g} % are not reached at any threshold"
    sizes = ", ".join(f"{name} {point['bytes_per_image'][name] / KB:.2f}" for name, point in points.items())
    return f"for {100 * accuracy:g} %, T_c free: {sizes} KB an image"
