"""Tables, files and plots of the results of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from splitlearn.files import write_json
from splitlearn.reporting.csv_files import write_csv
from splitlearn.reporting.figures import figure_file
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.sweep_figures import short_names, text_of
from splitlearn.sweep.frontiers import ALL, TEST, Axes, Baseline, Curve, Frontiers, frontiers_of, parameters_of
from splitlearn.sweep.pareto import frontier_of
from splitlearn.sweep.trial import State, Trial

CHOSEN_BY_TEST = "this frontier was chosen by test images, so its figures are better than new images will give"
STOPPED = ("stopped_after_epoch", "stopped_because")  # columns of trials.csv
ABOUT = (
    "rates and scores as val/… are measured with real payloads on images held out from training: they choose the "
    "frontier, and static code tables may have been fitted to the same images; test/… are of test images, which choose "
    "nothing, and are there for what was chosen"
)


def short_name(path: str) -> str:
    """Return the last part of a parameter's path, after the last dot."""
    return path.rpartition(".")[2]


def live_table(trials: Sequence[Trial], axes: Axes, rows: int = 12) -> Group:
    """Return a view of a running sweep: number of trials in each state, and the last `rows` rows of the frontier."""
    counts = {state: sum(trial.state is state for trial in trials) for state in State}
    told = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return Group(f"{len(trials)} trials: {told}", frontier_table(axes.frontier(trials)[-rows:], axes))


def frontier_table(frontier: Sequence[Trial], axes: Axes) -> Table:
    """Return the frontier as a table for the terminal."""
    table = Table(title="Pareto frontier")
    names = parameters_of(frontier)
    tested = [m for m in (axes.tested.rate, axes.tested.score) if m.startswith(TEST) and not axes.are_of_test_images]
    tested = [metric for metric in tested if any(metric in trial.metrics for trial in frontier)]
    for column in ("trial", axes.rate, axes.score, *tested, *short_names(names).values()):
        table.add_column(column, justify="right", overflow="fold")
    for trial in frontier:
        cells = [str(trial.number), f"{trial.metrics[axes.rate]:.4g}", f"{trial.metrics[axes.score]:.4f}"]
        cells += [f"{trial.metrics[metric]:.4g}" if metric in trial.metrics else "–" for metric in tested]
        table.add_row(*cells, *(text_of(trial.values.get(name, "–")) for name in names))
    return table


def figures_table(found: Frontiers, axes: Axes) -> Table:
    """Return hypervolumes, rates and BD-rates of the frontiers as a table for the terminal."""
    table = Table(title="Frontiers")
    compared = any(f.bd_rate_percent is not None or f.bd_rate_absent_because for f in found.figures.values())
    rates = [f"{axes.rate} at {score}" for score in found.figures[ALL].rate_at]
    for column in ("", "trials", "points", "hypervolume", *rates, *(["BD-rate"] if compared else [])):
        table.add_column(column, justify="right", overflow="fold")
    for name, f in found.figures.items():
        reached = ["not reached" if rate is None else f"{rate:.4g}" for rate in f.rate_at.values()]
        change = f.bd_rate_absent_because or ("" if f.bd_rate_percent is None else f"{f.bd_rate_percent:+.1f} %")
        cells = [str(f.trials), str(f.frontier_points), f"{f.hypervolume:.4g}", *reached]
        table.add_row(name, *cells, *([change] if compared else []))
    return table


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as CSV: number, state, error, when and why a pruner stopped it, seconds, parameters, metrics."""
    parameters = parameters_of(trials)
    metrics = sorted({name for trial in trials for name in trial.metrics})
    rows = [
        [t.number, t.state.value, t.error, t.stopped_after or "", t.stopped_because]
        + ["" if math.isnan(t.seconds) else f"{t.seconds:.1f}"]
        + [t.values.get(name, "") for name in parameters]
        + [t.metrics.get(name, "") for name in metrics]
        for t in trials
    ]
    write_csv(path, ["trial", "state", "error", *STOPPED, "seconds", *parameters, *metrics], rows)


def write_report(
    trials: Sequence[Trial],
    axes: Axes,
    out: Path,
    facts: Mapping[str, Any],
    by: str | None = None,
    at: Sequence[float] = (),
    baseline: Baseline | None = None,
    unsplit: float | None = None,
) -> Frontiers:
    """Write trials.csv, frontier.csv, pareto.json and pareto.png into a folder.

    Args:
        trials: trials of a sweep.
        axes: the two metrics.
        out: folder for the files, made if absent.
        facts: entries of pareto.json about the run, such as date and command.
        by: path of a parameter; each of its values gets a frontier.
        at: scores at which to interpolate rates.
        baseline: points for comparison, drawn too; each curve is compared with the points of its name.
        unsplit: score of the network without a cut, drawn as a line.

    Raises:
        ValueError: if the space has no parameter `by`.
    """
    found = frontiers_of(trials, axes, by, at, baseline)
    write_trials(out / "trials.csv", trials)
    write_trials(out / "frontier.csv", found.curves[0].frontier)
    told = {
        **facts,
        "rate": axes.rate,
        "score": axes.score,
        "about": CHOSEN_BY_TEST if axes.are_of_test_images else ABOUT,
        "hypervolume_from": found.worst or (0.0, 0.0),
        "curves": {name: asdict(each) for name, each in found.figures.items()},
        "frontier": [{"trial": t.number, **t.values, **t.metrics} for t in found.curves[0].frontier],
        "failed": {t.number: t.error for t in trials if t.state is State.FAILED},
    }
    write_json(out / "pareto.json", told)
    if found.worst is not None:
        _plot(found.curves, axes, (baseline or {}).get(ALL, []), unsplit, out)
    return found


def _plot(
    curves: Sequence[Curve], axes: Axes, baseline: Sequence[tuple[float, float]], unsplit: float | None, out: Path
) -> None:
    with figure_file(out / "pareto.png") as (_, (plot,)):
        for number, curve in enumerate(curves[1:] or curves):
            colour = f"C{number}"
            label = "frontier" if curve.name == ALL else f"frontier of {curve.name}"
            plot.plot(*_columns(axes.points(curve.trials)), ".", color=colour, alpha=0.35)
            plot.plot(*_columns(axes.points(curve.frontier)), "o-", color=colour, markersize=4, label=label)
            if tested := axes.points_on_test_images(curve.frontier):
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


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]
