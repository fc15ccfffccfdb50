"""Trainings and evaluations of scripts/papers/beysens2023: each is a shipped config with a few settings changed."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.papers.common.runs import Run, run_command

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
class ExitsRun(Run):
    """A training of a network with exits, and its evaluation."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    def evaluated(self, data: str, accuracies: str) -> dict[str, Any]:
        """Return what `splitlearn exits` finds with the best checkpoint, from its file if there is one."""
        out = self.folder / "exits"
        if not (out / "exits.json").is_file():
            words = ("--config", str(self.newest("config.yaml")), "--ckpt_path", str(self.best), "--data_root", data)
            run_command(["exits", *words, "--at", accuracies, "--out", str(out)], self.folder / "exits.log")
        content: dict[str, Any] = json.loads((out / "exits.json").read_text())
        return content

    def entropies(self) -> list[tuple[float, float]]:
        """Return step and entropy of the batch in bits, as logged while training."""
        files = sorted(self.folder.glob("version_*/metrics.csv"), key=lambda file: int(file.parent.name[8:]))
        rows = (row for file in files for row in csv.DictReader(file.read_text().splitlines()))
        return [(float(r["step"]), 8 * float(r["train/rate_loss"])) for r in rows if r.get("train/rate_loss")]


def first_stage(protocol: Protocol) -> Run | None:
    """Return the training without exits; None if its weights are shipped."""
    if protocol.vanilla is None:
        return None
    return Run(protocol.folder / "vanilla", (protocol.vanilla,), epochs(protocol.epochs[0]))


def second_stage(protocol: Protocol, cut: Cut) -> ExitsRun:
    """Return the training with an exit."""
    weights = ("--model.model.net.model.weights", protocol.weights)
    options = (*epochs(protocol.epochs[1]), *place(cut), *weights)
    return ExitsRun(protocol.folder / slug(cut.name), (protocol.early,), options)


def third_stage(protocol: Protocol, cut: Cut, rate: str, weight: float) -> ExitsRun:
    """Return the regularised training; without a weight, one that only logs the entropy."""
    loss = f"splitlearn.losses.{rate if weight else ENTROPY}"
    options = ("--model.rate_loss", loss, "--model.rate_weight", f"{weight:g}")
    weights = ("--model.model.weights", str(second_stage(protocol, cut).folder / "early_exit.safetensors"))
    name = f"{slug(cut.name)}_{rate}_{weight:g}" if weight else f"{slug(cut.name)}_0"
    words = (*epochs(protocol.epochs[2]), *place(cut), *options, *weights)
    return ExitsRun(protocol.folder / name, (protocol.regularised,), words)


def epochs(count: int) -> tuple[str, str]:
    """Return the words that set the length of a training."""
    return ("--trainer.max_epochs", str(count))


def place(cut: Cut) -> tuple[str, ...]:
    """Return the words that set cut and exit."""
    return ("--model.model.net.at", cut.at, "--model.model.exits", f"[{cut.exit}]")


def slug(name: str) -> str:
    """Return a name as a folder's."""
    return name.replace(" ", "_").replace("/", "_")
