"""Rebuild docs/results/datta2022: sweeps over a frozen ResNet-20 for CIFAR-10, the paper's recipe and ours.

Both draw over the same two cuts and train each point as long, from the same cached features; the paper's has two
sweeps, ours one of as many trials. Beside them
stand methods without training, at the same cut: min–max with run-length code and with ContextRANS, and JPEG and HEIC
files; and some points of ours with the whole network trained along. What is finished is not run again: a killed run
goes on where it was.

    scripts/papers/datta2022/run --data FOLDER            with FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg
    … --imagenet FOLDER --mobilenet FILE       and a sweep over MobileNetV2 at 224 pixels; FOLDER has a labels.csv

Two hours for the features, three times 28 trials of three epochs and four whole networks, on two idle cores. On
ImageNet: the launch lines of configs/datta2022/resnet50.yaml and splitlearn pareto.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.papers.common.config_rows import CARRA, JPEG, UNSPLIT, Row, measure
from scripts.papers.common.runs import Run, run_command
from scripts.papers.datta2022 import report
from scripts.papers.datta2022.report import CUT, MOBILENET, OURS, PAPER, Recipe, WholeNetwork
from splitlearn.reporting import Comparison

CONTEXT = ("--model.model.codec", "splitlearn.codecs.ContextRANS")
HEIC = ("--model.model.codec.format", "HEIC")
WHOLE = "configs/datta2022/full_model.yaml"


def without_training(data: str) -> list[Comparison]:
    """Return what methods that train nothing send, each through the command line."""
    rows = [Row("unsplit", "raw pixels", UNSPLIT)]
    for quality in (75, 50, 25):
        file = (*JPEG, str(quality))
        rows.append(Row("JPEG", f"quality {quality}", UNSPLIT, file))
        rows.append(Row("HEIC", f"quality {quality}", UNSPLIT, (*file, *HEIC)))
    for bits in (2, 3, 4):
        setting = "--model.model.quantizer.bits", str(bits)
        rows.append(Row("min–max + run-length", f"{bits} bits", CARRA, setting))
        rows.append(Row("min–max + ContextRANS", f"{bits} bits", CARRA, (*setting, *CONTEXT)))
    return [measure(row, data) for row in rows]


def whole_networks(data: str, few: int, epochs: int) -> list[WholeNetwork]:
    """Train the network along with the bottleneck, at some points of ours a cut, from the cheapest to the dearest."""
    found = []
    for curve in report.curves(OURS)[1:]:
        for trial in report.spread(curve.frontier, few):
            words = [f"--{name}={value}" for name, value in trial.values.items()]
            values = " ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.values.items())
            setting = f"{values}, {epochs} epochs"
            options = (*words, "--trainer.max_epochs", str(epochs))
            row = Row("whole network", setting, (*OURS.configs, WHOLE), options, trained=True)
            found.append(WholeNetwork(str(trial.values[CUT]), trial, measure(row, data)))
    return found


def sweep(recipe: Recipe, settings: Sequence[str], trials: int, workers: int) -> None:
    """Run a recipe's sweeps, or what is left of them."""
    for folder, space in recipe.sweeps.items():
        configs = Run(folder, recipe.configs).words
        words = [*configs, *settings, "--space", space, "--trials", str(trials), "--workers", str(workers)]
        run_command(["sweep", *words, "--out", str(folder)])


def main() -> None:
    """Run the sweeps and what they are compared with, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--trials", type=int, default=28, help="of each sweep, over both cuts")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--whole", type=int, default=2, help="points a cut to train the whole network at, 10 minutes each"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at a time, one thread each")
    parser.add_argument("--imagenet", help="folder with labels.csv and the images that it lists")
    parser.add_argument("--mobilenet", type=Path, help="MobileNetV2 weights, TensorFlow's padding")
    options = parser.parse_args()
    shared = ["--data.root", options.data, "--trainer.max_epochs", str(options.epochs), "--by", CUT, "--views", "2"]
    for recipe in (PAPER, OURS):
        sweep(recipe, shared, options.trials, options.workers)
    if options.imagenet and options.mobilenet:
        network = ["--model.model.net.model", "splitlearn.models.mobilenet_v2_same"]
        network += ["--model.model.net.model.weights", str(options.mobilenet)]
        images = ["--data", "splitlearn.data.LabelledImages", "--data.root", options.imagenet]
        images += ["--data.train_size", "400", "--data.val_size", "40", "--data.batch_size", "16"]
        sweep(MOBILENET, [*network, *images], 8, options.workers)
    networks = whole_networks(options.data, options.whole, options.epochs)
    report.write(without_training(options.data), networks, options.epochs)
