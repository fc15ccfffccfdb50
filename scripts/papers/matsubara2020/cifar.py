"""Distillation against the task's own loss, at the same bytes: ResNet-20 on CIFAR-10."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.papers.common.runs import kept
from scripts.papers.matsubara2020.runs import RUNS, run_stage
from splitlearn.codecs import ContextRANS
from splitlearn.config.loading import load_task
from splitlearn.data import ImageFolder
from splitlearn.models import SplitModel
from splitlearn.reporting import markdown_table, plot_rates

FOLDER = RUNS / "cifar10"
STUDENT = "configs/matsubara2020/resnet20_student.yaml"
TASK = "configs/datta2022/resnet20_layer2.yaml"
UNIT = (
    *("--model.model.bottleneck", "splitlearn.models.NormalizedSeparable", "--model.model.bottleneck.channels=32"),
    *("--model.model.bottleneck.stride=2", "--model.optimizer.lr=0.02", "--model.lr_scheduler.max_lr=0.02"),
)
BOTH = ("--model.distillation", "splitlearn.losses.FeatureDistillation", "--model.distillation_weight", "2.0")
WEIGHTS = {
    "distillation (GHND)": (0.01, 0.03, 0.1),
    "task loss": (0.05, 0.15, 0.45),
    "task loss and features": (0.05, 0.15, 0.45),
}


@dataclass(frozen=True)
class Score:
    """One trained bottleneck.

    Attributes:
        method: its loss.
        rate_weight: weight of the rate in it.
        accuracy: on the test images, by way of payloads.
        bytes_per_image: mean payload; static tables, fitted to the images held out of training, cross once.
        table_bytes: of these tables.
    """

    method: str
    rate_weight: float
    accuracy: float
    bytes_per_image: float
    table_bytes: int


def cifar_section(data: str, epochs: int, out: Path) -> str:
    """Train what is not trained by now, test it, and return the section of the page."""
    found = [_score(method, weight, data, epochs) for method, weights in WEIGHTS.items() for weight in weights]
    unsplit = json.loads(Path("checkpoints/resnet20_cifar10_jpeg.json").read_text())["metrics"]["test/accuracy"]
    rows = [
        [s.method, f"{s.rate_weight:g}", f"{100 * s.accuracy:.2f}", f"{s.bytes_per_image:.1f}", s.table_bytes]
        for s in found
    ]
    curves = {
        method: sorted((s.bytes_per_image, s.accuracy) for s in found if s.method == method) for method in WEIGHTS
    }
    plot_rates(curves, unsplit, out / "cifar10.png", "ResNet-20, layer2, CIFAR-10 as JPEG", "top-1 accuracy (%)")
    return "\n".join(
        [
            "## Distillation against the task's loss: ResNet-20, CIFAR-10 as JPEG\n",
            f"The same bottleneck, cut and rate loss, {epochs} epochs each; unsplit {100 * unsplit:.2f} %.\n",
            markdown_table(["loss", "rate weight", "accuracy %", "bytes/image", "tables, once, bytes"], rows),
            "![accuracy against bytes](cifar10.png)\n",
            compare_curves(curves),
        ]
    )


def compare_curves(curves: dict[str, list[tuple[float, float]]]) -> str:
    """Compare where curves overlap, along the logarithm of the bytes."""
    (first, mine), *others = curves.items()
    text = []
    for name, theirs in others:
        low, high = max(mine[0][0], theirs[0][0]), min(mine[-1][0], theirs[-1][0])
        if low >= high:
            ours, his = (mine[0], theirs[-1]) if mine[0][0] > theirs[-1][0] else (mine[-1], theirs[0])
            text.append(
                f"{first} and {name} have no bytes in common; where they are nearest, {first} is right in "
                f"{100 * ours[1]:.2f} % with {ours[0]:.0f} bytes, {name} in {100 * his[1]:.2f} % with {his[0]:.0f}."
            )
            continue
        at = np.exp(np.linspace(np.log(low), np.log(high), 50))
        gap = 100 * float(np.mean(_along(mine, at) - _along(theirs, at)))
        better = "more" if gap > 0 else "less"
        text.append(
            f"From {low:.0f} to {high:.0f} bytes, {first} is right in {abs(gap):.2f} points {better} than {name}, "
            "on average."
        )
    return " ".join(text) + "\n"


def _along(curve: Sequence[tuple[float, float]], at: Any) -> Any:
    return np.interp(np.log(at), [np.log(x) for x, _ in curve], [y for _, y in curve])


def _score(method: str, weight: float, data: str, epochs: int) -> Score:
    name = method.replace(" ", "_").strip("()").replace("(", "")
    folder = FOLDER / f"{name}_{weight:g}_{epochs}"

    def make() -> dict[str, float]:
        config = STUDENT if method.startswith("distillation") else TASK
        options = ["--trainer.max_epochs", str(epochs), "--model.rate_weight", f"{weight:g}"]
        options += [] if config == STUDENT else [*UNIT, *(BOTH if "features" in method else ())]
        return _measured(run_stage(config, folder, data, options).best, data)

    return Score(method, weight, **kept(folder / "score.json", make))


def _measured(best: Path, data: str) -> dict[str, float]:
    model: Any = load_task(best).get_submodule("model")
    images = ImageFolder(data, 32, batch_size=250, val_size=2000)
    images.setup()
    symbols = [
        image.numpy() for batch, _ in images.batches("val") for tensor in model.symbols(batch) for image in tensor
    ]
    sent: SplitModel = model.coded_by(
        model.coder.quantizers, [ContextRANS.fit(symbols, model.coder.quantizers[0].levels)]
    ).eval()
    right = size = count = 0
    for batch, labels in images.batches("test"):
        payloads = sent.compress(batch)
        right += int((sent.decompress(payloads).argmax(1) == labels).sum())
        size += sum(map(len, payloads))
        count += len(labels)
    return {"accuracy": right / count, "bytes_per_image": size / count, "table_bytes": sent.table_bytes}
