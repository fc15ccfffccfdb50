"""Frontiers of a sweep: the two metrics, the curves, and their figures beside those of a baseline."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from splitlearn.sweep.pareto import bd_rate, hypervolume, pareto_frontier, rate_at
from splitlearn.sweep.trial import State, Trial

ALL = "all"
VAL, TEST = "val/", "test/"  # metrics on images held out from training, and on test images
Baseline: TypeAlias = dict[str, list[tuple[float, float]]]
"""(rate, score) of the points to compare with: all of them, and those of single values of a parameter if known."""


@dataclass(frozen=True)
class Axes:
    """The two metrics of a frontier.

    Attributes:
        rate: name of the metric to minimise, e.g. `val/bits_per_pixel`.
        score: name of the metric to maximise, e.g. `val/accuracy`.
    """

    rate: str
    score: str

    @property
    def tested(self) -> Axes:
        """The same metrics on the test images; a metric that depends on no images stays as it is."""
        return Axes(
            *(TEST + name.removeprefix(VAL) if name.startswith(VAL) else name for name in (self.rate, self.score))
        )

    @property
    def are_of_test_images(self) -> bool:
        """Whether one of the metrics is of the test images, so that these choose the frontier."""
        return any(name.startswith(TEST) for name in (self.rate, self.score))

    def points(self, trials: Sequence[Trial]) -> list[tuple[float, float]]:
        """Return (rate, score) of each trial; NaN where it has none."""
        return [(t.metrics.get(self.rate, math.nan), t.metrics.get(self.score, math.nan)) for t in trials]

    def frontier(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that no other beats, by rising rate."""
        finished = [trial for trial in trials if trial.state is State.FINISHED]
        mask = pareto_frontier(self.points(finished))
        kept = [trial for trial, is_kept in zip(finished, mask, strict=True) if is_kept]
        return sorted(kept, key=lambda trial: trial.metrics[self.rate])

    def points_on_test_images(self, frontier: Sequence[Trial]) -> list[tuple[float, float]]:
        """Return (rate, score) on the test images of the tested trials of a frontier; none if test images chose it."""
        if self.are_of_test_images or self.tested == self:
            return []
        return [point for point in self.tested.points(frontier) if not any(map(math.isnan, point))]


@dataclass(frozen=True)
class Curve:
    """The frontier of a group of trials.

    Attributes:
        name: of the group, e.g. its cut.
        trials: the finished trials of the group.
        frontier: the trials on its frontier, by rising rate.
    """

    name: str
    trials: list[Trial]
    frontier: list[Trial]


@dataclass(frozen=True)
class FrontierFigures:
    """Figures of one frontier.

    Attributes:
        trials: number of finished trials.
        frontier_points: number of trials on the frontier.
        hypervolume: between the frontier and the worst rate and score of all trials.
        rate_at: rates at given scores, interpolated; None where the frontier does not reach that far.
        bd_rate_percent: BD-rate against the baseline; None without a baseline, or if the two share no scores.
        bd_rate_absent_because: reason why there is none although there is a baseline.
    """

    trials: int
    frontier_points: int
    hypervolume: float
    rate_at: dict[str, float | None]
    bd_rate_percent: float | None = None
    bd_rate_absent_because: str | None = None


@dataclass(frozen=True)
class Frontiers:
    """The frontiers of a sweep.

    Attributes:
        curves: the frontier over all trials, then one for each value of a parameter.
        figures: of each curve, by its name.
        worst: rate and score from which the hypervolumes are counted; None if nothing was measured.
    """

    curves: list[Curve]
    figures: dict[str, FrontierFigures]
    worst: tuple[float, float] | None


def curves_of(trials: Sequence[Trial], axes: Axes, by: str | None) -> list[Curve]:
    """Return the frontier over all finished trials, and of each value of a parameter.

    Args:
        trials: of a sweep.
        axes: rate and score.
        by: path of a parameter; None for the frontier over all alone.

    Raises:
        ValueError: if the space has no such parameter.
    """
    finished = [trial for trial in trials if trial.state is State.FINISHED]
    groups: dict[str, list[Trial]] = {ALL: finished}
    for trial in finished if by is not None else ():
        if by not in trial.values:
            raise ValueError(f"the space has no parameter {by!r}: it has {', '.join(trial.values)}")
        groups.setdefault(str(trial.values[by]), []).append(trial)
    return [Curve(name, group, axes.frontier(group)) for name, group in groups.items()]


def frontiers_of(
    trials: Sequence[Trial],
    axes: Axes,
    by: str | None = None,
    at: Sequence[float] = (),
    baseline: Baseline | None = None,
) -> Frontiers:
    """Return the frontiers of a sweep with their figures.

    Args:
        trials: of a sweep.
        axes: rate and score.
        by: path of a parameter whose values get a frontier each.
        at: scores at which the rates are wanted.
        baseline: other points to compare with; each curve is compared with those of its name, if there are any.

    Raises:
        ValueError: if the space has no parameter `by`.
    """
    curves = curves_of(trials, axes, by)
    baseline = baseline or {ALL: []}
    seen = np.array([*axes.points(curves[0].trials), *baseline[ALL]]).reshape(-1, 2)
    seen = seen[~np.isnan(seen).any(1)]
    worst = (float(seen[:, 0].max()), float(seen[:, 1].min())) if len(seen) else None
    others = () if len(baseline) > 1 else baseline[ALL]  # of curves whose name the baseline does not have
    figures = {c.name: _figures_of(c, axes, worst or (0.0, 0.0), at, baseline.get(c.name, others)) for c in curves}
    return Frontiers(curves, figures, worst)


def _figures_of(
    curve: Curve, axes: Axes, worst: tuple[float, float], at: Sequence[float], baseline: Sequence[tuple[float, float]]
) -> FrontierFigures:
    points = axes.points(curve.frontier)
    rates = {f"{score:g}": rate_at(points, score) for score in at}
    figures = FrontierFigures(
        trials=len(curve.trials),
        frontier_points=len(curve.frontier),
        hypervolume=hypervolume(points, *worst),
        rate_at={score: None if math.isnan(rate) else rate for score, rate in rates.items()},
    )
    if not baseline:
        return figures
    try:
        return replace(figures, bd_rate_percent=bd_rate(points, baseline))
    except ValueError as error:
        return replace(figures, bd_rate_absent_because=str(error))


def read_baseline(path: Path, axes: Axes, by: str | None = None) -> Baseline:
    """Return (rate, score) of every row of a CSV file that has both, such as another sweep's trials.csv.

    Args:
        path: of the file.
        axes: names of the two columns.
        by: column whose values get points of their own beside those of all rows; left out if there is no such column.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has no such columns, or no numbers in them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no baseline at {path}: name a CSV file with columns {axes.rate} and {axes.score}")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found: Baseline = {ALL: []}
    if rows and not {axes.rate, axes.score} <= rows[0].keys():
        raise ValueError(f"{path} has no columns {axes.rate} and {axes.score}: name a CSV file that has them")
    try:
        for row in rows:
            if row[axes.rate] and row[axes.score]:
                point = float(row[axes.rate]), float(row[axes.score])
                found[ALL].append(point)
                if by is not None and by in row:
                    found.setdefault(row[by], []).append(point)
    except ValueError as error:
        raise ValueError(f"{path} has no numbers in columns {axes.rate} and {axes.score} ({error})") from None
    if not found[ALL]:
        raise ValueError(f"{path} has no rows with {axes.rate} and {axes.score}")
    return found
