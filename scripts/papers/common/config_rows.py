"""Rows of a table that are a shipped config with one setting changed, run by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from splitlearn.reporting import Comparison

RUNS = Path("runs/cifar10")
UNSPLIT = ("configs/cifar10/unsplit.yaml",)
CARRA = ("configs/carra2023/resnet20_layer2.yaml",)
DATTA = ("configs/datta2022/resnet20_layer2.yaml",)
JPEG = ("--model.model.codec", "splitlearn.models.ImageFile", "--model.model.codec.quality")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # several rows run at a time


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        method: what the rows of a curve share.
        setting: what is special about this one.
        configs: config files, stacked on trainer.yaml.
        options: further words of the command line.
        trained: whether to fit before testing.
    """

    method: str
    setting: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    trained: bool = False

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return RUNS / f"{self.method} {self.setting}".replace(" ", "_").replace("/", "_")


def command_of(row: Row) -> str:
    """Return what to type for a row, after --data.root FOLDER."""
    configs = " ".join(f"--config {config}" for config in ("configs/trainer.yaml", *row.configs))
    return f"splitlearn {'fit' if row.trained else 'test'} {configs} {' '.join(row.options)}".strip()


def splitlearn(command: str, row: Row, data: str, *options: str) -> None:
    """Run one splitlearn command for a row; its output goes to a file beside the run."""
    configs = [word for config in ("configs/trainer.yaml", *row.configs) for word in ("--config", config)]
    place = ("--trainer.logger.save_dir", str(row.folder.parent), "--trainer.logger.name", row.folder.name)
    words = [sys.executable, "-m", "splitlearn", command, *configs, "--data.root", data, *place, *row.options, *options]
    row.folder.mkdir(parents=True, exist_ok=True)
    with (row.folder / f"{command}.log").open("w") as log:
        if subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=ONE_THREAD, check=False).returncode:
            raise RuntimeError(f"{row.method}, {row.setting}: splitlearn {command} failed, see {log.name}")


def measure(row: Row, data: str) -> Comparison:
    """Return a row's figures, from its results.json if it has one by now."""
    if not (found := sorted(row.folder.glob("*/results.json"))):
        checkpoint: tuple[str, ...] = ()
        if row.trained:
            resume = ("--ckpt_path", "last") if list(row.folder.glob("*/checkpoints/last.ckpt")) else ()
            splitlearn("fit", row, data, *resume)
            checkpoint = ("--ckpt_path", "last")
        splitlearn("test", row, data, *checkpoint)
        found = sorted(row.folder.glob("*/results.json"))
    return Comparison.from_metrics(row.method, row.setting, json.loads(found[-1].read_text()))
