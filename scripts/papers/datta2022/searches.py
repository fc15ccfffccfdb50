"""Runs of scripts/papers/datta2022: sweeps, what they are compared with, and facts about both, kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.papers.common.config_rows import Row
from scripts.papers.common.page import record
from scripts.papers.common.runs import Run, kept, run_command
from scripts.papers.datta2022.sections import CUT, JOURNAL, Recipe, Section
from splitlearn.analysis import profile_model
from splitlearn.files import write_json
from splitlearn.sweep import Study, Trial

WHOLE = "configs/datta2022/full_model.yaml"
FACTS, PROFILE, BESIDE, NETWORKS = "facts.json", "profile.json", "beside", "whole_networks"
UNSPLIT = "unsplit"


@dataclass(frozen=True)
class Point:
    """What a method without a sweep reaches on the test images.

    Attributes:
        method: what the points of a curve share.
        setting: what is special about this one.
        score: 0…1.
        bytes_per_image: mean size of a payload in bytes, headers included.
        bits_per_pixel: the same in bits for each pixel of the network's input.
    """

    method: str
    setting: str
    score: float
    bytes_per_image: float
    bits_per_pixel: float


@dataclass(frozen=True)
class WholeNetwork:
    """A point of ours with the whole network trained along.

    Attributes:
        number: of the trial that trained the bottleneck alone with the same values.
        measured: what the whole network reaches.
    """

    number: int
    measured: Point


@dataclass(frozen=True)
class Search:
    """A section with its data, weights and sizes, from the command line.

    Attributes:
        section: network, cuts and recipes.
        data: folder of the images.
        settings: words that set the network and the data for both recipes.
        beside: what it is compared with.
        trials: of each recipe.
        epochs: of each trial.
        views: augmented versions of each training image.
        whole: points a cut at which the whole network trains along; 0 for none.
    """

    section: Section
    data: Path
    settings: tuple[str, ...]
    beside: tuple[Row, ...]
    trials: int
    epochs: int
    views: int
    whole: int = 0

    def run(self, runs: Path, workers: int, group: int | None) -> None:
        """Run what has not been run: both sweeps, then what they are compared with.

        Args:
            runs: folder that keeps everything.
            workers: processes of a sweep.
            group: largest number of trials that train together; None leaves it to the sweep.
        """
        folder = runs / self.section.slug
        told = {"epochs": self.epochs, "views": self.views, "trials": self.trials, **record()}
        write_json(folder / FACTS, told)
        kept(folder / PROFILE, self._profile)
        for recipe in self.section.recipes:
            run_command(self.sweep_words(recipe, runs, workers, group))
        for row in self.beside:
            self._measure(row, folder / BESIDE)
        for trial in self._whole_trials(runs):
            self._train_whole(trial, folder / NETWORKS)

    def sweep_words(self, recipe: Recipe, runs: Path, workers: int, group: int | None) -> list[str]:
        """Return the command that runs a recipe's sweep, or what is left of it."""
        place = self.section.folder(runs, recipe)
        length = ("--trainer.max_epochs", str(self.epochs), "--trainer.check_val_every_n_epoch", str(self.epochs))
        configs = Run(place, recipe.configs, recipe.options).words
        words = [*configs, "--data.root", str(self.data), *self.settings, *length]
        words += ["--space", recipe.space, "--trials", str(self.trials), "--workers", str(workers), "--by", CUT]
        words += ["--score", self.section.axes.score, "--views", str(self.views)]
        words += ["--cache_dir", str(runs / "features"), "--out", str(place)]
        return ["sweep", *words, *(["--group", str(group)] if group else [])]

    def _profile(self) -> dict[str, Any]:
        """Return parameters and MACs of the network, and the share of them before each cut."""
        found = {row.name: row for row in profile_model(self.section.network(), self.section.shape)}
        whole = list(found.values())[-1]
        shares = {cut: found[cut].cumulative_macs / whole.cumulative_macs for cut in self.section.cuts}
        return {"parameters": whole.cumulative_parameters, "macs": whole.cumulative_macs, "shares": shares}

    def _measure(self, row: Row, folder: Path) -> None:
        name = f"{row.method} {row.setting}".replace(" ", "_").replace("/", "_")
        kept(
            folder / f"{name}.json",
            lambda: self._point(row, Run(folder / name, row.configs, row.options).tested(str(self.data))),
        )

    def _train_whole(self, trial: Trial, folder: Path) -> None:
        """Train the network along with a bottleneck, with the values of a trial of ours."""
        words = [f"--{name}={value}" for name, value in trial.values.items()]
        options = (*self.section.ours.options, *self.settings, *words, "--trainer.max_epochs", str(self.epochs))
        run = Run(folder / f"trial_{trial.number:03}", (*self.section.ours.configs, WHOLE), options)

        def made() -> dict[str, Any]:
            if run.newest("results.json") is None:
                run.fit(str(self.data))
            row = Row("whole network", f"trial {trial.number}", run.configs)
            return {"number": trial.number, "measured": self._point(row, run.tested(str(self.data), "last"))}

        kept(folder / f"trial_{trial.number:03}.json", made)

    def _point(self, row: Row, metrics: dict[str, Any]) -> dict[str, Any]:
        score, size, rate = (metrics[f"test/{n}"] for n in (self.section.metric, "bytes_per_image", "bits_per_pixel"))
        return asdict(Point(row.method, row.setting, score, size, rate))

    def _whole_trials(self, runs: Path) -> Iterator[Trial]:
        for curve in self.section.curves(runs, self.section.ours)[1:] if self.whole else ():
            yield from spread(curve.frontier, self.whole)


def spread(frontier: Sequence[Trial], few: int) -> list[Trial]:
    """Return up to `few` trials of a frontier, evenly spread over its upper half in score, the best included."""
    best = frontier[len(frontier) // 2 :]
    return [best[i] for i in sorted({round(i) for i in np.linspace(0, len(best) - 1, few)})]


@dataclass(frozen=True)
class Found:
    """What a folder of runs holds of a section.

    Attributes:
        section: network, cuts and recipes.
        facts: epochs, views, trials, command, date and machine of the last launch.
        images: numbers of images in train, val and test.
        profile: parameters, macs, and shares of the latter before each cut.
        trials: by the name of a recipe.
        points: of methods without training, on the test images.
        networks: of the whole network trained along.
    """

    section: Section
    facts: dict[str, Any]
    images: dict[str, int]
    profile: dict[str, Any]
    trials: dict[str, list[Trial]]
    points: list[Point]
    networks: list[WholeNetwork]

    @property
    def unsplit(self) -> float | None:
        """Score of the network without a cut; None if it has not been measured."""
        return next((point.score for point in self.points if point.method == UNSPLIT), None)


def found_in(runs: Path, section: Section) -> Found | None:
    """Return what a folder of runs holds of a section; None if no trial of one of the recipes has finished."""
    folder = runs / section.slug
    trials = {recipe.name: section.trials(runs, recipe) for recipe in section.recipes}
    if not all(any(trial.metrics for trial in several) for several in trials.values()):
        return None
    sweep = section.folder(runs, section.paper)
    images = Study(str(sweep / JOURNAL), sweep.name).settings["data"]
    points = [Point(**content) for content in _contents(folder / BESIDE)]
    networks = [WholeNetwork(each["number"], Point(**each["measured"])) for each in _contents(folder / NETWORKS)]
    facts, profile = (json.loads((folder / name).read_text()) for name in (FACTS, PROFILE))
    return Found(section, facts, images, profile, trials, points, networks)


def _contents(folder: Path) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
