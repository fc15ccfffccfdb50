"""Rows of a table that are a shipped config with one setting changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.papers.common.runs import Run
from splitlearn.reporting import Comparison

UNSPLIT = ("configs/cifar10/unsplit.yaml",)
CARRA = ("configs/carra2023/resnet20_layer2.yaml",)
DATTA = ("configs/datta2022/resnet20_layer2.yaml",)
JPEG = ("--model.model.codec", "splitlearn.models.ImageFile", "--model.model.codec.quality")


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
    def run(self) -> Run:
        """The run that measures it."""
        name = f"{self.method} {self.setting}".replace(" ", "_").replace("/", "_")
        return Run(Path("runs/cifar10") / name, self.configs, self.options)

    @property
    def command(self) -> str:
        """What to type for it, after --data.root FOLDER."""
        return f"splitlearn {'fit' if self.trained else 'test'} {' '.join(self.run.words)}"


def measure(row: Row, data: str) -> Comparison:
    """Return a row's figures, from its results.json if it has one by now."""
    if row.trained and row.run.newest("results.json") is None:
        row.run.fit(data)
    return Comparison.from_metrics(row.method, row.setting, row.run.tested(data, "last" if row.trained else None))
