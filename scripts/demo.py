"""Cut a small network in two, train a bottleneck at two rates, and count real bytes, on scikit-learn's digits.

Leaves in runs/demo: a table as results.json, rate_accuracy.png, the backbone and both bottlenecks as safetensors.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

from splitlearn.codecs import Huffman, RunLength
from splitlearn.data import Digits
from splitlearn.deploy import export_bottleneck, export_network, write_record
from splitlearn.losses import FeatureDistillation, L1Rate
from splitlearn.models import (
    CompressionModel,
    ImageFile,
    InputModel,
    NormalizedSeparable,
    Split,
    SplitModel,
    resnet8,
    split,
)
from splitlearn.quantizers import MinMax, Step
from splitlearn.reporting import Comparison, comparison_table, write_comparison
from splitlearn.tasks import ClassificationTask, KeepFreedMemory, StaticTables, quieten, run_record

OUT = Path("runs/demo")
CUT = "layer2"
LICENCE = "Apache-2.0, the splitlearn developers; trained on UCI's digits, CC BY 4.0"
RATE_WEIGHTS = {"high rate": 0.1, "low rate": 1.0}


def main() -> None:
    """Run the whole story; under 90 seconds on two cores."""
    started = time.monotonic()
    quieten()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    seed_everything(0, verbose=False)
    console, data = Console(), Digits(batch_size=64)
    points: list[Comparison] = []

    console.print("\n[bold]1. Train a small backbone[/], the whole network, as anyone would.")
    unsplit = InputModel(resnet8())
    fit(_task(unsplit, 0.01), data, 10)
    points.append(measure("unsplit", "raw pixels", unsplit, data))
    metrics = {"test/accuracy": points[-1].accuracy}
    weights = export_network(unsplit.network, OUT / "backbone.safetensors", metrics)
    write_record(weights, metrics, "scripts/demo", LICENCE)

    console.print("\n[bold]2. Send the image as a file[/], the baseline of every camera.")
    for quality in (90, 50):
        jpeg = InputModel(resnet8(weights=weights), ImageFile("JPEG", quality))
        points.append(measure("JPEG", f"quality {quality}", jpeg, data))

    console.print(
        f"\n[bold]3. Cut after {CUT}[/] and send its output, quantized and run-length coded. Nothing is trained."
    )
    for bits in (4, 2):
        model = SplitModel(_split(weights, data), MinMax(bits), RunLength())
        points.append(measure("min–max + run-length", f"{bits} bits", model, data))

    console.print("\n[bold]4. Train a bottleneck at the cut[/], at two rates. The network stays frozen.")
    for setting, rate_weight in RATE_WEIGHTS.items():
        unit = partial(NormalizedSeparable, channels=8, stride=2)
        model = SplitModel(_split(weights, data), Step(1.0), Huffman(), unit)
        losses = {"rate_loss": L1Rate(), "rate_weight": rate_weight, "distillation": FeatureDistillation()}
        fit(_task(model, 0.02, **losses), data, 10, StaticTables())
        points.append(measure("bottleneck + Huffman", setting, model, data))
        metrics = {"test/accuracy": points[-1].accuracy, "test/bytes_per_image": points[-1].bytes_per_image}
        export_bottleneck(model, OUT / f"bottleneck_{setting.replace(' ', '_')}.safetensors", metrics)

    about = {"data": "scikit-learn digits, 297 test images", "seed": 0, **run_record()}
    write_comparison(points, OUT, f"ResNet-8 on digits, cut after {CUT}", about)
    console.print(comparison_table(points, f"ResNet-8 on 297 test digits, cut after {CUT}"))
    console.print(f"{time.monotonic() - started:.0f} s; results.json, rate_accuracy.png and weights lie in {OUT}")


def fit(task: ClassificationTask, data: Digits, epochs: int, *callbacks: Callback) -> None:
    """Train whatever in `task` is not frozen."""
    Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[RichProgressBar(), KeepFreedMemory(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(task, data)


def measure(method: str, setting: str, model: CompressionModel, data: Digits) -> Comparison:
    """Send every test image through its payload."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(ClassificationTask(model, num_classes=10), data, verbose=False)
    return Comparison.from_metrics(method, setting, trainer.callback_metrics)


def _task(model: CompressionModel, learning_rate: float, **losses: Any) -> ClassificationTask:
    return ClassificationTask(
        model,
        num_classes=10,
        optimizer=partial(torch.optim.Adam, lr=learning_rate),
        lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=learning_rate),
        **losses,
    )


def _split(weights: Path, data: Digits) -> Split:
    return split(resnet8(weights=weights), CUT, data.image_shape)


if __name__ == "__main__":
    main()
