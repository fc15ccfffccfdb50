"""Report of runs and sweeps as one HTML page: tables, plots of score against rate, and pictures of predictions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from splitlearn.reporting import html_page as html
from splitlearn.reporting.figures import figure_file, line_style
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.prediction_pictures import Picture
from splitlearn.reporting.sweep_figures import short_names
from splitlearn.sweep.frontiers import ALL, Axes, frontiers_of, parameters_of
from splitlearn.sweep.trial import State, Trial

RATE = "test/bytes_per_image"
SCORES = ("test/accuracy", "test/map", "test/miou", "test/agreement")
SIZES = (RATE, "test/bits_per_pixel", "test/table_bytes", "test/exit_share")
MOST_SETTINGS = 6  # columns of settings that differ
PLOT = (5.2, 3.6)  # inches: small, so that its letters are large on a phone
Point: TypeAlias = tuple[float, float]
ABOUT = ("command", "date", "machine")


@dataclass(frozen=True)
class ReportedRun:
    """One run.

    Attributes:
        name: its folder, as text.
        metrics: metrics of its test, or the last values of its training.
        settings: settings by dotted path.
        about: command, date, machine and versions, as far as known.
        config: the whole config, for those who want to read it.
    """

    name: str
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    config: Any

    @property
    def is_tested(self) -> bool:
        """Whether payloads were measured."""
        return RATE in self.metrics


@dataclass(frozen=True)
class ReportedSweep:
    """One sweep: its folder as text, the metrics of its frontier, and its trials."""

    name: str
    axes: Axes
    trials: Sequence[Trial]


@dataclass(frozen=True)
class PicturedImage:
    """An image through the payloads of several models: title, and pictures in the order of falling sizes."""

    title: str
    pictures: Sequence[Picture]


def write_html_report(
    path: Path,
    title: str,
    runs: Sequence[ReportedRun],
    sweeps: Sequence[ReportedSweep],
    images: Sequence[PicturedImage],
    notes: Sequence[str] = (),
) -> None:
    """Write a report of runs and sweeps as one HTML file, with all pictures inside.

    Args:
        path: path of the file; it appears complete or not at all.
        title: title of the page.
        runs: tested runs and trainings.
        sweeps: sweeps.
        images: images with predictions.
        notes: sentences on what is not shown.
    """
    parts: list[str] = []
    tested = [run for run in runs if run.is_tested]
    trained = [run for run in runs if not run.is_tested]
    if tested:
        parts += [html.heading("Tests"), *_plots(tested), _table_of_tests(tested)]
    for sweep in sweeps:
        parts += [html.heading(f"Sweep {sweep.name}"), *_sweep(sweep)]
    if images:
        parts += [html.heading("Predictions from payloads, at falling rates")]
        for image in images:
            figures = [(each.webp, each.caption, each.origin) for each in image.pictures]
            parts += [html.heading(image.title, 3), html.row_of_figures(figures)]
    if trained:
        parts += [
            html.heading("Trainings"),
            html.paragraph("The last value of each metric."),
            _table_of_trainings(trained),
        ]
    if runs:
        parts += [html.heading("Settings"), *(html.folded(run.name, _texts(run)) for run in runs)]
    parts += [html.paragraph(note) for note in notes]
    html.write_page(path, title, parts)


def differing_settings(runs: Sequence[ReportedRun]) -> list[str]:
    """Return the paths of the first settings of the model that differ among runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name.startswith("model"))
    return [name for name in names if len({str(run.settings.get(name)) for run in runs}) > 1][:MOST_SETTINGS]


def _table_of_tests(runs: Sequence[ReportedRun]) -> str:
    shown = [name for name in (*SCORES, *SIZES) if any(name in run.metrics for run in runs)]
    varied = differing_settings(runs)
    heads = ["run", *(name.removeprefix("test/").replace("_", " ") for name in shown), *short_names(varied).values()]
    rows = [
        [run.name, *(_number(run.metrics.get(name)) for name in shown), *(_setting(run, name) for name in varied)]
        for run in sorted(runs, key=lambda run: -run.metrics[RATE])
    ]
    return html.table(heads, rows)


def _table_of_trainings(runs: Sequence[ReportedRun]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.metrics if "/" in name))
    return html.table(
        ["run", *names], [[run.name, *(_number(run.metrics.get(name)) for name in names)] for run in runs]
    )


def _plots(runs: Sequence[ReportedRun]) -> list[str]:
    """Return a plot of each score against the rate; runs of one experiment share a line."""
    parts = []
    for score in SCORES:
        measured = [run for run in runs if score in run.metrics and run.metrics[RATE] > 0]
        lines: dict[str, list[Point]] = {}
        for run in measured:
            lines.setdefault(str(Path(run.name).parent), []).append((run.metrics[RATE], run.metrics[score]))
        if measured:
            parts.append(_plot(lines, (), "payload (bytes per image)", score.removeprefix("test/")))
    return parts


def _sweep(sweep: ReportedSweep) -> list[str]:
    counts = {state: sum(trial.state is state for trial in sweep.trials) for state in State}
    parts = [html.paragraph(", ".join(f"{count} trials {state.value}" for state, count in counts.items() if count))]
    found = frontiers_of(sweep.trials, sweep.axes)
    curve, figures = found.curves[0], found.figures[ALL]
    if not curve.frontier:
        return [*parts, html.paragraph(f"No trial has measured {sweep.axes.rate} and {sweep.axes.score}.")]
    lines = {"frontier": sweep.axes.points(curve.frontier)}
    if on_test_images := sweep.axes.points_on_test_images(curve.frontier):
        lines["frontier, on test images"] = on_test_images
    parts.append(_plot(lines, sweep.axes.points(curve.trials), sweep.axes.rate, sweep.axes.score))
    names = parameters_of(curve.frontier)
    axes = dict.fromkeys([sweep.axes.rate, sweep.axes.score, sweep.axes.tested.rate, sweep.axes.tested.score])
    rows = [
        [t.number, *(_number(t.metrics.get(name)) for name in axes), *(_number(t.values.get(name)) for name in names)]
        for t in reversed(curve.frontier)
    ]
    parts.append(html.table(["trial", *axes, *short_names(names).values()], rows))
    parts.append(html.paragraph(f"{figures.frontier_points} points; hypervolume {figures.hypervolume:.4g}"))
    return parts


def _plot(lines: Mapping[str, Sequence[Point]], dots: Sequence[Point], rate: str, score: str) -> str:
    """Return a plot of lines, and of single points behind them, that can be read on a phone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plot.png"
        with figure_file(file, size=PLOT) as (_, (axes,)):
            axes.plot([x for x, _ in dots], [y for _, y in dots], ".", color="grey", alpha=0.4)
            for number, (label, points) in enumerate(lines.items()):
                ordered = sorted(points)
                axes.plot([x for x, _ in ordered], [y for _, y in ordered], label=label, **line_style(number))
            axes.set(xscale="log", xlabel=f"{rate.replace('_', ' ')}, log scale", ylabel=score.replace("_", " "))
            plain_log_ticks(axes.xaxis)
            axes.tick_params(labelsize=8)
            axes.grid(visible=True, alpha=0.3)
            axes.legend(fontsize=8)
        return html.image(file.read_bytes(), "png", f"{score} against {rate}", "plot")


def _texts(run: ReportedRun) -> list[str]:
    told = {name: run.about[name] for name in ABOUT if name in run.about} | {"metrics": dict(run.metrics)}
    return [yaml.safe_dump(each, sort_keys=False, allow_unicode=True) for each in (told, run.config) if each]


def _setting(run: ReportedRun, name: str) -> str:
    value = run.settings.get(name)
    return value.rpartition(".")[2] if isinstance(value, str) and value.startswith("splitlearn.") else _number(value)


def _number(value: object) -> str:
    """Return a value as text: numbers with four digits, large ones whole."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
