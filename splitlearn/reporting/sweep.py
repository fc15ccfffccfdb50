"""What a sweep has found, as tables, files and plots."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.console import Group
from rich.table import Table

from splitlearn.files import whole_file, write_json
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.sweep.pareto import bd_rate, frontier_of, hypervolume, pareto_frontier, rate_at
from splitlearn.sweep.space import Value
from splitlearn.sweep.trial import State, Trial

ALL = "all"
VAL, TEST = "val/", "test/"  # figures of images that are held out from training, and of test images
CHOSEN_BY_TEST = "this frontier was chosen by test images, so its figures are better than new images will give"
ABOUT = (
    "rates and scores as val/… are measured with real payloads on images held out from training: they choose the "
    "frontier, and static code tables may have been fitted to the same images; test/… are of test images, which choose "
    "nothing, and are there for what was chosen"
)
Baseline: TypeAlias = dict[str, list[tuple[float, float]]]
"""(rate, score) of points to compare with: of all, and of single values of a parameter if these are known."""


@dataclass(frozen=True)
class Axes:
    """What is weighed against each other.

    Attributes:
        rate: name of the metric to minimise, e.g. `val/bits_per_pixel`.
        score: name of the metric to maximise, e.g. `val/accuracy`.
    """

    rate: str
    score: str

    @property
    def tested(self) -> Axes:
        """The same figures, of test images; what is of no images stays."""
        return Axes(
            *(TEST + name.removeprefix(VAL) if name.startswith(VAL) else name for name in (self.rate, self.score))
        )

    @property
    def are_of_test_images(self) -> bool:
        """Whether a frontier of them is chosen by test images."""
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


@dataclass(frozen=True)
class Curve:
    """The frontier of some of a sweep's trials.

    Attributes:
        name: what these trials share, e.g. their cut.
        trials: all that have finished.
        frontier: those that no other of them beats, by rising rate.
    """

    name: str
    trials: list[Trial]
    frontier: list[Trial]


@dataclass(frozen=True)
class Figures:
    """What a frontier comes to.

    Attributes:
        trials: how many have finished.
        frontier_points: how many of them no other beats.
        hypervolume: between the frontier and the worst rate and score of all trials.
        rate_at: rates at given scores, interpolated; None where the frontier does not reach that far.
        bd_rate_percent: how much more rate it takes than the baseline; None without one, or if they share no scores.
        bd_rate_absent_because: what then stands against it.
    """

    trials: int
    frontier_points: int
    hypervolume: float
    rate_at: dict[str, float | None]
    bd_rate_percent: float | None = None
    bd_rate_absent_because: str | None = None


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        curves: the frontier over all trials, then those of single values of a parameter.
        figures: of each curve, by its name.
    """

    curves: list[Curve]
    figures: dict[str, Figures]


def curves_of(trials: Sequence[Trial], axes: Axes, by: str | None) -> list[Curve]:
    """Return the frontier over all finished trials, and of each value of a parameter.

    Args:
        trials: of a sweep.
        axes: what is weighed.
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


def short_name(path: str) -> str:
    """Return the last word of a parameter's path."""
    return path.rpartition(".")[2]


def live_table(trials: Sequence[Trial], axes: Axes, rows: int = 12) -> Group:
    """Return how far a sweep is, and its frontier by now."""
    counts = {state: sum(trial.state is state for trial in trials) for state in State}
    told = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return Group(f"{len(trials)} trials: {told}", frontier_table(axes.frontier(trials)[-rows:], axes))


def frontier_table(frontier: Sequence[Trial], axes: Axes) -> Table:
    """Return the frontier as a table for the terminal."""
    table = Table(title="Pareto frontier")
    names = list(frontier[0].values) if frontier else []
    tested = [m for m in (axes.tested.rate, axes.tested.score) if m.startswith(TEST) and not axes.are_of_test_images]
    tested = [metric for metric in tested if any(metric in trial.metrics for trial in frontier)]
    for column in ("trial", axes.rate, axes.score, *tested, *map(short_name, names)):
        table.add_column(column, justify="right", overflow="fold")
    for trial in frontier:
        cells = [str(trial.number), f"{trial.metrics[axes.rate]:.4g}", f"{trial.metrics[axes.score]:.4f}"]
        cells += [f"{trial.metrics[metric]:.4g}" if metric in trial.metrics else "–" for metric in tested]
        table.add_row(*cells, *(_text(trial.values[name]) for name in names))
    return table


def figures_table(report: Report, axes: Axes) -> Table:
    """Return what the frontiers come to as a table for the terminal."""
    table = Table(title="Frontiers")
    first = report.figures[ALL]
    compared = any(f.bd_rate_percent is not None or f.bd_rate_absent_because for f in report.figures.values())
    rates = [f"{axes.rate} at {score}" for score in first.rate_at]
    for column in ("", "trials", "points", "hypervolume", *rates, *(["BD-rate"] if compared else [])):
        table.add_column(column, justify="right", overflow="fold")
    for name, f in report.figures.items():
        reached = ["not reached" if rate is None else f"{rate:.4g}" for rate in f.rate_at.values()]
        change = _change(f)
        cells = [
            str(f.trials),
            str(f.frontier_points),
            f"{f.hypervolume:.4g}",
            *reached,
            *([change] if compared else []),
        ]
        table.add_row(name, *cells)
    return table


def _change(figures: Figures) -> str:
    rate = figures.bd_rate_percent
    return figures.bd_rate_absent_because or ("" if rate is None else f"{rate:+.1f} %")


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as CSV: number, state, error, seconds, parameters, metrics."""
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.values))
    metrics = sorted({name for trial in trials for name in trial.metrics})
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "error", "seconds", *parameters, *metrics])
        for t in trials:
            told = [t.number, t.state.value, t.error, "" if math.isnan(t.seconds) else f"{t.seconds:.1f}"]
            cells = [t.values.get(name, "") for name in parameters] + [t.metrics.get(name, "") for name in metrics]
            writer.writerow([*told, *cells])


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


def figures_of(
    curve: Curve, axes: Axes, worst: tuple[float, float], at: Sequence[float], baseline: Sequence[tuple[float, float]]
) -> Figures:
    """Return what a frontier comes to.

    Args:
        curve: the frontier.
        axes: what is weighed.
        worst: rate and score from which the hypervolume is counted.
        at: scores to give the rates of.
        baseline: points to compare with; none if empty.
    """
    points = axes.points(curve.frontier)
    figures = Figures(
        trials=len(curve.trials),
        frontier_points=len(curve.frontier),
        hypervolume=hypervolume(points, *worst),
        rate_at={f"{score:g}": _known(rate_at(points, score)) for score in at},
    )
    if not baseline:
        return figures
    try:
        return replace(figures, bd_rate_percent=bd_rate(points, baseline))
    except ValueError as error:
        return replace(figures, bd_rate_absent_because=str(error))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def write_report(
    trials: Sequence[Trial],
    axes: Axes,
    out: Path,
    facts: Mapping[str, Any],
    by: str | None = None,
    at: Sequence[float] = (),
    baseline: Baseline | None = None,
    unsplit: float | None = None,
) -> Report:
    """Write trials.csv, frontier.csv, pareto.json and pareto.png into a folder.

    Args:
        trials: of a sweep.
        axes: what is weighed.
        out: folder, made if absent.
        facts: what pareto.json says of the run, such as date and command.
        by: path of a parameter whose values get a frontier each.
        at: scores to give the rates of.
        baseline: other points to be drawn and compared with, each curve with those of its name, if there are such.
        unsplit: score of the network without a cut, drawn as a line.

    Raises:
        ValueError: if the space has no parameter `by`.
    """
    curves = curves_of(trials, axes, by)
    write_trials(out / "trials.csv", trials)
    write_trials(out / "frontier.csv", curves[0].frontier)
    baseline = baseline or {ALL: []}
    seen = np.array([*axes.points(curves[0].trials), *baseline[ALL]]).reshape(-1, 2)
    seen = seen[~np.isnan(seen).any(1)]
    worst = (float(seen[:, 0].max()), float(seen[:, 1].min())) if len(seen) else (0.0, 0.0)
    others = () if len(baseline) > 1 else baseline[ALL]  # of curves whose name the baseline does not know
    figures = {c.name: figures_of(c, axes, worst, at, baseline.get(c.name, others)) for c in curves}
    told = {
        **facts,
        "rate": axes.rate,
        "score": axes.score,
        "about": CHOSEN_BY_TEST if axes.are_of_test_images else ABOUT,
        "hypervolume_from": worst,
        "curves": {name: asdict(each) for name, each in figures.items()},
        "frontier": [{"trial": t.number, **t.values, **t.metrics} for t in curves[0].frontier],
        "failed": {t.number: t.error for t in trials if t.state is State.FAILED},
    }
    write_json(out / "pareto.json", told)
    if len(seen):
        _plot(curves, axes, baseline[ALL], unsplit, out)
    return Report(curves, figures)


def _plot(
    curves: Sequence[Curve], axes: Axes, baseline: Sequence[tuple[float, float]], unsplit: float | None, out: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    plot = figure.subplots()
    drawn = curves[1:] or curves
    for number, curve in enumerate(drawn):
        colour = f"C{number}"
        label = "frontier" if curve.name == ALL else f"frontier of {curve.name}"
        plot.plot(*_columns(axes.points(curve.trials)), ".", color=colour, alpha=0.35)
        plot.plot(*_columns(axes.points(curve.frontier)), "o-", color=colour, markersize=4, label=label)
        if tested := points_on_test_images(curve.frontier, axes):
            plot.plot(*_columns(tested), "x", color=colour, markersize=5, label=f"{label}, on test images")
    if baseline:
        plot.plot(*_columns(frontier_of(baseline).tolist()), "s--", color="grey", markersize=4, label="baseline")
    if unsplit is not None:
        plot.axhline(unsplit, color="black", linewidth=1, label="unsplit")
    plot.set_title(f"{out.resolve().name}: {len(curves[0].trials)} trials that have finished")
    plot.set_xscale("log")
    plain_log_ticks(plot.xaxis)
    plot.set_xlabel(f"{axes.rate.replace('_', ' ')} (log scale)")
    plot.set_ylabel(axes.score.replace("_", " "))
    plot.grid(alpha=0.3)
    plot.legend()
    with whole_file(out / "pareto.png") as temporary:
        figure.savefig(temporary, dpi=150)


def points_on_test_images(frontier: Sequence[Trial], axes: Axes) -> list[tuple[float, float]]:
    """Return (rate, score) on test images of those trials of a frontier that were tested; none if these chose it."""
    if axes.are_of_test_images or axes.tested == axes:
        return []
    return [point for point in axes.tested.points(frontier) if not any(map(math.isnan, point))]


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]


def write_interactive(trials: Sequence[Trial], axes: Axes, path: Path) -> None:
    """Write the trials as an interactive HTML page that needs no network; pointing at a trial tells its parameters.

    Raises:
        ImportError: if plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure, Scatter
    except ImportError as error:
        raise ImportError("the interactive plot needs plotly: pip install 'splitlearn[viz]'") from error
    finished = [trial for trial in trials if trial.state is State.FINISHED]
    figure = Figure()
    for name, group, mode in (("trials", finished, "markers"), ("frontier", axes.frontier(trials), "lines+markers")):
        rates, scores = _columns(axes.points(group))
        texts = [
            f"trial {t.number}<br>" + "<br>".join(f"{short_name(n)}: {_text(v)}" for n, v in t.values.items())
            for t in group
        ]
        figure.add_trace(Scatter(x=rates, y=scores, mode=mode, name=name, text=texts))
    if tested := points_on_test_images(axes.frontier(trials), axes):
        rates, scores = _columns(tested)
        figure.add_trace(Scatter(x=rates, y=scores, mode="markers", name="frontier, on test images"))
    figure.update_xaxes(type="log", title=axes.rate)
    figure.update_yaxes(title=axes.score)
    with whole_file(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)
