"""Trainings and evaluations of scripts/papers/beysens2023: each is a shipped config with a few settings changed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # several run at a time
CONFIGS = "configs/beysens2023"
ENTROPY, SPARSITY = "EntropyRate", "L1Rate"


@dataclass(frozen=True)
class Cut:
    """Where a network is cut and left.

    Attributes:
        name: in tables, e.g. "exit 5".
        at: module of the cut.
        exit: module of the exit.
    """

    name: str
    at: str
    exit: str


@dataclass(frozen=True)
class Protocol:
    """What is trained, and how long.

    Attributes:
        name: of its folder.
        network: as it stands in headings.
        vanilla: config of the first stage; None if its weights are shipped.
        weights: file that the first stage leaves.
        early: config of the second stage.
        regularised: config of the third.
        epochs: of the stages; the first is 0 if its weights are shipped.
        cuts: of the second stage.
        tables: of the third: heading, cut, rate, weights.
    """

    name: str
    network: str
    vanilla: str | None
    weights: str
    early: str
    regularised: str
    epochs: tuple[int, int, int]
    cuts: tuple[Cut, ...]
    tables: tuple[tuple[str, Cut, str, tuple[float, ...]], ...]

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return Path("runs/beysens2023") / self.name


@dataclass(frozen=True)
class Run:
    """One training, started from weights, and its evaluation.

    Attributes:
        protocol: that it belongs to.
        name: of its folder.
        config: shipped config.
        options: settings that differ from it.
    """

    protocol: Protocol
    name: str
    config: str
    options: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.protocol.folder / self.name

    def train(self, data: str) -> None:
        """Fit it, or go on where it was, and export the best; nothing if that was done."""
        words = ("--config", "configs/trainer.yaml", *self._settings(data))
        run_logged(self.folder / "fit.log", "stages", *words, "--stages", self.config)

    def test(self, data: str) -> dict[str, Any]:
        """Return what `splitlearn test` finds with the best checkpoint, from its file if there is one."""
        if not (found := sorted(self.folder.glob("version_*/results.json"), key=_version)):
            words = ("--config", "configs/trainer.yaml", "--config", self.config, *self._settings(data))
            run_logged(self.folder / "test.log", "test", *words, "--ckpt_path", str(self._best()))
            found = sorted(self.folder.glob("version_*/results.json"), key=_version)
        content: dict[str, Any] = json.loads(found[-1].read_text())
        return content

    def evaluate(self, data: str, accuracies: str) -> dict[str, Any]:
        """Return what `splitlearn exits` finds, from its file if there is one."""
        found = self.folder / "exits" / "exits.json"
        if not found.is_file():
            config = max(self.folder.glob("version_*/config.yaml"), key=_version)
            words = ("--config", str(config), "--ckpt_path", str(self._best()), "--data_root", data)
            run_logged(self.folder / "exits.log", "exits", *words, "--at", accuracies, "--out", str(found.parent))
        content: dict[str, Any] = json.loads(found.read_text())
        return content

    def entropies(self) -> list[tuple[float, float]]:
        """Return step and entropy of the batch in bits, as logged while training."""
        points = []
        for file in sorted(self.folder.glob("version_*/metrics.csv"), key=_version):
            for row in csv.DictReader(file.read_text().splitlines()):
                if row.get("train/rate_loss"):
                    points.append((float(row["step"]), 8 * float(row["train/rate_loss"])))
        return points

    def _settings(self, data: str) -> tuple[str, ...]:
        place = ("--trainer.logger.save_dir", str(self.folder.parent), "--trainer.logger.name", self.folder.name)
        return ("--data.root", data, *place, *self.options)

    def _best(self) -> Path:
        return max(self.folder.rglob("best*.ckpt"), key=lambda path: path.stat().st_mtime)


def _version(file: Path) -> int:
    return int(file.parent.name.removeprefix("version_"))


def run_logged(log: Path, *words: str) -> None:
    """Run a splitlearn command; what it says goes into a file.

    Raises:
        RuntimeError: if it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        command = [sys.executable, "-m", "splitlearn", *words]
        if subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=ONE_THREAD, check=False).returncode:
            raise RuntimeError(
                f"splitlearn {words[0]} failed, see {log}; launched again, the script goes on from there"
            )


def first_stage(protocol: Protocol) -> Run | None:
    """Return the training without exits; None if its weights are shipped."""
    if protocol.vanilla is None:
        return None
    return Run(protocol, "vanilla", protocol.vanilla, epochs(protocol.epochs[0]))


def second_stage(protocol: Protocol, cut: Cut) -> Run:
    """Return the training with an exit."""
    weights = ("--model.model.net.model.weights", protocol.weights)
    return Run(protocol, slug(cut.name), protocol.early, (*epochs(protocol.epochs[1]), *place(cut), *weights))


def third_stage(protocol: Protocol, cut: Cut, rate: str, weight: float) -> Run:
    """Return the regularised training; without a weight, one that only logs the entropy."""
    options = (
        "--model.rate_loss",
        f"splitlearn.losses.{rate if weight else ENTROPY}",
        "--model.rate_weight",
        f"{weight:g}",
    )
    weights = ("--model.model.weights", str(second_stage(protocol, cut).folder / "early_exit.safetensors"))
    name = f"{slug(cut.name)}_{rate}_{weight:g}" if weight else f"{slug(cut.name)}_0"
    return Run(protocol, name, protocol.regularised, (*epochs(protocol.epochs[2]), *place(cut), *options, *weights))


def epochs(count: int) -> tuple[str, str]:
    """Return the words that set the length of a training."""
    return ("--trainer.max_epochs", str(count))


def place(cut: Cut) -> tuple[str, ...]:
    """Return the words that set cut and exit."""
    return ("--model.model.net.at", cut.at, "--model.model.exits", f"[{cut.exit}]")


def slug(name: str) -> str:
    """Return a name as a folder's."""
    return name.replace(" ", "_").replace("/", "_")
