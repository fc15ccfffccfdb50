"""Time of a sweep over bottlenecks of a frozen head: splitlearn sweep against separate fits.

Three ways to train and test the same points (unit, loss and quantizer of Datta et al. 2022; 16 channels, stride 2, so
that every trial takes as long; step and rate_weight are drawn):
    ours            splitlearn sweep, one worker: features cached once, then every trial; imports, storage and report
                    count
    separate fits   a LightningModule as one writes it by hand: backbone frozen and in eval, all images through it in
                    every epoch; only its data loading is splitlearn's
    bare loops      the least that can be done: one pass of the head, then tail-only trainings in plain PyTorch on
                    features that lie in memory; nothing is logged, stored or coded

Separate fits and bare loops are timed on the first few points, and their mean stands for the others; clocks start when
network and data are built. Ours also codes images into bytes, the others do not. One thread and channels-last
for all; seconds are of the processor, so that other work beside it counts little. All begin with the sweep's first
weights of each point, and bare loops take the batches in its order; fits draw and augment images as they come.
    scripts/benchmarks/bench_sweep --data FOLDER           with FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from scripts.papers.common.config_rows import DATTA
from scripts.papers.common.runs import Run, processor_seconds
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.data import ImageDataModule
from splitlearn.data.row_order import RowOrder
from splitlearn.files import write_json
from splitlearn.models import Bottleneck, DepthwiseSeparable, SplitModel
from splitlearn.sweep import Space, Study
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.seeds import seed_of_point
from splitlearn.tasks import quieten, run_record

CUT = "model.model.net.at"
STEP, RATE_WEIGHT = "model.model.quantizer.step", "model.rate_weight"
SPACE = f"{STEP}: {{uniform: [0.25, 4]}}\n{RATE_WEIGHT}: {{log_uniform: [0.01, 1]}}\n"
CHANNELS, STRIDE = 16, 2
PEAK = 0.01  # learning rate, as in the config


@dataclass(frozen=True)
class Timing:
    """What one way took for some points, and how well these did.

    Attributes:
        cpu_seconds: of the processor, for all points of the sweep; extrapolated where not all were run.
        points: how many were run.
        accuracy: of each point that was run, on images held out, by which a sweep chooses.
    """

    cpu_seconds: float
    points: int
    accuracy: list[float]


class ByHand(LightningModule):
    """What one writes without splitlearn: head, unit and tail in a row, rounding with a straight-through gradient."""

    def __init__(self, head: nn.Module, tail: nn.Module, unit: Bottleneck, step: float, rate_weight: float) -> None:
        super().__init__()
        self.head, self.tail, self.unit = head.requires_grad_(False), tail.requires_grad_(False), unit
        self.step, self.rate_weight = step, rate_weight
        self.right: list[Tensor] = []  # of the images of the last validation

    def on_train_epoch_start(self) -> None:
        """Keep the frozen batch norms as they are."""
        self.head.eval()
        self.tail.eval()

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and logits."""
        (features,) = self.head(images)
        return unit_loss(self.unit, self.tail, features, labels, self.step, self.rate_weight)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss, _ = self.losses(*batch)
        self.log("train/loss", loss)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self.right = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss of a batch, and note which images are right."""
        loss, logits = self.losses(*batch)
        self.log("val/loss", loss)
        self.right.append(logits.argmax(1) == batch[1])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the accuracy of a batch."""
        _, logits = self.losses(*batch)
        self.log("test/accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        """Return Adam over the unit, on one cycle."""
        optimizer = torch.optim.Adam(self.unit.parameters(), PEAK)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def plain_unit(model: SplitModel, first: nn.Module) -> Bottleneck:
    """Return the bottleneck in torch's own layers, in channels-last, with the weights of another."""
    unit = DepthwiseSeparable(model.net.shapes[0], CHANNELS, STRIDE)
    unit.load_state_dict(first.state_dict())
    features = model.net.shapes[0][0]
    plain = nn.Sequential(
        nn.Conv2d(CHANNELS, features, 1),
        nn.ConvTranspose2d(features, features, 3, STRIDE, padding=1, output_padding=1, groups=features),
    )
    plain.load_state_dict(unit.decoder.state_dict())
    unit.decoder = plain
    return unit.to(memory_format=torch.channels_last)


def unit_loss(
    unit: Bottleneck, tail: nn.Module, features: Tensor, labels: Tensor, step: float, rate_weight: float
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and weighted L1 norm, and logits."""
    latent = unit.encoder(features)
    latent_hat = latent + ((latent / step).round() * step - latent).detach()
    logits = tail(unit.decoder(latent_hat))
    return functional.cross_entropy(logits, labels) + rate_weight * latent.abs().mean(), logits


@dataclass(frozen=True)
class Job:
    """The same work for all three ways.

    Attributes:
        cut: where the network is cut.
        data: folder of images.
        trials: how many points.
        few: how many of them separate fits and bare loops run.
        epochs: of each training.
        folder: for the sweep, emptied.
    """

    cut: str
    data: str
    trials: int
    few: int
    epochs: int
    folder: Path

    @property
    def words(self) -> tuple[str, ...]:
        """Command line of the config."""
        settings = ("--data.root", self.data, "--trainer.max_epochs", str(self.epochs), f"--{CUT}", self.cut)
        unit = [
            f"--model.model.bottleneck.{name}={value}" for name, value in (("channels", CHANNELS), ("stride", STRIDE))
        ]
        return (*Run(self.folder, DATTA).words, *settings, *unit)

    def point(self, number: int) -> dict[str, Value]:
        """Return the values of a point, by parameter path."""
        return Space.read(self.folder / "space.yaml").point(0, number)

    def settings(self, number: int) -> tuple[float, float]:
        """Return step and rate_weight of a point."""
        point = self.point(number)
        return float(point[STEP]), float(point[RATE_WEIGHT])

    def first_unit(self, number: int) -> nn.Module:
        """Return the bottleneck with which the sweep begins a point."""
        trial = ConfigTrial(self.words, self.folder, "bench", None, "float32", 1)
        settings = trial.parse(self.point(number))
        settings.seed_everything, settings.trainer.logger = seed_of_point(0, number), False
        task, _, _ = trial.built(settings)
        unit: nn.Module = task.model.coder.bottlenecks[0]
        return unit

    def built(self) -> tuple[SplitModel, ImageDataModule]:
        """Return network and data as the config makes them, read and in channels-last."""
        trial = ConfigTrial(self.words, self.folder, "bench", None, "float32", 1)
        task, data = trial.build(self.point(0))
        data.setup()
        model: Any = task.model
        return model.eval().to(memory_format=torch.channels_last), data


def ours(job: Job) -> Timing:
    """Run the sweep as a user does."""
    command = [sys.executable, "-m", "splitlearn", "sweep", *job.words, "--space", str(job.folder / "space.yaml")]
    command += [f"--trials={job.trials}", f"--out={job.folder / 'sweep'}", f"--cache_dir={job.folder / 'kept'}"]
    before = processor_seconds()
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    spent = processor_seconds() - before
    found = Study(str(job.folder / "sweep" / "journal.log"), "sweep").trials()
    return Timing(spent, job.trials, [t.metrics["val/accuracy"] for t in found])


def separate_fits(job: Job) -> Timing:
    """Fit and test the first points one by one."""
    accuracy, (model, data) = [], job.built()
    units = [plain_unit(model, job.first_unit(number)) for number in range(job.few)]
    head = nn.Sequential(model.normalize or nn.Identity(), model.net.head)
    start = time.process_time()
    for number in range(job.few):
        seed_everything(number, verbose=False)
        task = ByHand(head, model.net.tail, units[number], *job.settings(number))
        folder = job.folder / "fits"
        trainer = Trainer(
            max_epochs=job.epochs, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(task, data)
        trainer.test(task, data, verbose=False)
        accuracy.append(float(torch.cat(task.right).float().mean()))
    return Timing((time.process_time() - start) * job.trials / job.few, job.few, accuracy)


def bare_loops(job: Job) -> Timing:
    """Pass all images through the head once, then train units on what came out."""
    model, data = job.built()
    units = [plain_unit(model, job.first_unit(number)) for number in range(job.few)]
    start = time.process_time()
    kept = {part: head_pass(model, data, part) for part in ("train", "val", "test")}
    head_seconds, start = time.process_time() - start, time.process_time()
    accuracy = []
    for number in range(job.few):
        unit = units[number]
        right: list[Tensor] = []
        tail, settings = model.net.tail, job.settings(number)
        count = len(kept["train"][1])
        optimizer = torch.optim.Adam(unit.parameters(), PEAK)
        steps = job.epochs * -(-count // data.batch_size)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, steps)
        for epoch in range(job.epochs):
            order = torch.tensor(list(RowOrder(count, seed=0, epoch=epoch)))
            for features, labels in batches(kept["train"], order, data.batch_size):
                optimizer.zero_grad()
                unit_loss(unit, tail, features, labels, *settings)[0].backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
            right = right_of(unit, tail, kept["val"], data.batch_size, settings)
        right_of(unit, tail, kept["test"], data.batch_size, settings)
        accuracy.append(float(torch.cat(right).float().mean()))
    spent = time.process_time() - start
    return Timing(head_seconds + spent * job.trials / job.few, job.few, accuracy)


@torch.inference_mode()
def right_of(
    unit: Bottleneck, tail: nn.Module, kept: tuple[Tensor, Tensor], size: int, settings: tuple[float, float]
) -> list[Tensor]:
    """Return which images of each batch are right."""
    order = torch.arange(len(kept[1]))
    return [
        unit_loss(unit, tail, features, labels, *settings)[1].argmax(1) == labels
        for features, labels in batches(kept, order, size)
    ]


@torch.inference_mode()
def head_pass(model: SplitModel, data: ImageDataModule, part: str) -> tuple[Tensor, Tensor]:
    """Return float16 features and labels of a part of the data."""
    made = [
        (model.features(images)[0].half(), labels) for images, labels in data.batches(part, augmented=part == "train")
    ]
    features, labels = zip(*made, strict=True)
    return torch.cat(features), torch.cat(labels)


def batches(kept: tuple[Tensor, Tensor], order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield float32 features and labels in this order."""
    for chosen in torch.split(order, size):
        yield kept[0][chosen].float().contiguous(memory_format=torch.channels_last), kept[1][chosen]


WAYS: dict[str, Callable[[Job], Timing]] = {"ours": ours, "separate fits": separate_fits, "bare loops": bare_loops}


def main() -> None:
    """Run all ways at all cuts, print the table, leave a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--cuts", nargs="+", default=["layer3", "layer2"])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--few", type=int, default=4, help="points that separate fits and bare loops run")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_sweep"))
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)
    load, found = os.getloadavg()[0], {}
    for cut in options.cuts:
        folder = options.out / cut
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "space.yaml").write_text(SPACE)
        job = Job(cut, options.data, options.trials, min(options.few, options.trials), options.epochs, folder)
        found[cut] = {name: measured(way, job) for name, way in WAYS.items()}
        shutil.rmtree(folder / "kept")
    facts = {**run_record(), "load_average": load, "trials": options.trials, "epochs": options.epochs}
    write_json(options.out / "results.json", {**facts, "cuts": found})
    report(found, options.trials, options.epochs)
    print(f"{options.out / 'results.json'} written")


def measured(way: Callable[[Job], Timing], job: Job) -> dict[str, Any]:
    """Run one way and return its record."""
    print(f"{job.cut}: {way.__name__.replace('_', ' ')}", flush=True)
    return way(job).__dict__


def report(found: dict[str, Any], trials: int, epochs: int) -> None:
    """Print the table."""
    title = f"{trials} trials of {epochs} epochs, processor seconds"
    table = Table(
        "cut",
        "way",
        "seconds",
        "÷ ours",
        "points run",
        "mean accuracy of the first ones",
        "points apart from ours at most",
        title=title,
    )
    for cut, ways in found.items():
        first = min(len(way["accuracy"]) for way in ways.values())
        for name, way in ways.items():
            ratio = way["cpu_seconds"] / ways["ours"]["cpu_seconds"]
            accuracy = 100 * float(np.mean(way["accuracy"][:first]))
            ours = ways["ours"]["accuracy"][:first]
            apart = 100 * max(abs(a - b) for a, b in zip(way["accuracy"], ours, strict=False))
            table.add_row(
                cut,
                name,
                f"{way['cpu_seconds']:,.0f}",
                f"{ratio:.2f}",
                str(way["points"]),
                f"{accuracy:.2f} %",
                f"{apart:.2f}",
            )
    Console(width=110).print(table)
