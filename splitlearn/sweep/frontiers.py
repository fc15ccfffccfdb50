"""Pareto frontiers of a sweep, and their figures in comparison with a baseline."""

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
"""Points (rate, score) for comparison, by the name of a curve: all points, and those of each value of a parameter."""


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
        """The same metrics on the test images; a metric that depends on no images is unchanged."""
        return Axes(
            *(TEST + name.removeprefix(VAL) if name.startswith(VAL) else name for name in (self.rate, self.score))
        )

    @property
    def are_of_test_images(self) -> bool:
        """Whether one of the metrics is measured on test images, which then choose the frontier."""
        return any(name.startswith(TEST) for name in (self.rate, self.score))

    def points(self, trials: Sequence[Trial]) -> list[tuple[float, float]]:
        """Return (rate, score) of each trial; NaN for a metric that it lacks."""
        return [(t.metrics.get(self.rate, math.nan), t.metrics.get(self.score, math.nan)) for t in trials]

    def frontier(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the finished trials that no other dominates, in ascending order of rate."""
        finished = [trial for trial in trials if trial.state is State.FINISHED]
        mask = pareto_frontier(self.points(finished))
        kept = [trial for trial, is_kept in zip(finished, mask, strict=True) if is_kept]
        return sorted(kept, key=lambda trial: trial.metrics[self.rate])

    def points_on_test_images(self, frontier: Sequence[Trial]) -> list[tuple[float, float]]:
        """Return (rate, score) on test images of a frontier's tested trials; nothing if test images chose them."""
        if self.are_of_test_images or self.tested == self:
            return []
        return [point for point in self.tested.points(frontier) if not any(map(math.isnan, point))]


@dataclass(frozen=True)
class Curve:
    """The frontier of a group of trials.

    Attributes:
        name: name of the group, e.g. its cut.
        trials: finished trials of the group.
        frontier: trials on its frontier, in ascending order of rate.
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
        hypervolume: area between the frontier and the worst rate and score of all trials.
        rate_at: interpolated rates at given scores; None for a score that the frontier does not reach.
        bd_rate_percent: BD-rate against the baseline in per cent; None without a baseline, or if it cannot be computed.
        bd_rate_absent_because: reason why it cannot be computed; None otherwise.
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
        figures: figures of each curve, by its name.
        worst: largest rate and smallest score, the reference point of the hypervolumes; None if nothing was measured.
    """

    curves: list[Curve]
    figures: dict[str, FrontierFigures]
    worst: tuple[float, float] | None


def parameters_of(trials: Sequence[Trial]) -> list[str]:
    """Return the paths of all parameters of trials, in order; some may not exist in every trial."""
    return list(dict.fromkeys(name for trial in trials for name in trial.values))


def curves_of(trials: Sequence[Trial], axes: Axes, by: str | None) -> list[Curve]:
    """Return the frontier over all finished trials, then one for each value of a parameter.

    Args:
        trials: trials of a sweep.
        axes: the two metrics.
        by: path of a parameter; None for the frontier over all trials only.

    Raises:
        ValueError: if the space has no such parameter.
    """
    finished = [trial for trial in trials if trial.state is State.FINISHED]
    groups: dict[str, list[Trial]] = {ALL: finished}
    if by is not None and finished and all(by not in trial.values for trial in finished):
        raise ValueError(f"the space has no parameter {by!r}: it has {', '.join(parameters_of(finished))}")
    for trial in finished:
        if by in trial.values:  # else it does not exist with the trial's other values
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
        trials: trials of a sweep.
        axes: the two metrics.
        by: path of a parameter; each of its values gets a frontier.
        at: scores at which to interpolate rates.
        baseline: points for comparison; each curve is compared with the points of its name, if there are any.

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
    """Return (rate, score) of each row with both in a CSV file, such as the trials.csv of another sweep.

    Args:
        path: path of the file.
        axes: names of the two columns.
        by: column; the points of each of its values are also returned separately. Ignored if there is no such column.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing or contains no numbers.
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
