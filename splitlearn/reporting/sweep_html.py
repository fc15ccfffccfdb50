"""A page of one or several sweeps: a single HTML file that works without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from splitlearn.files import whole_file
from splitlearn.reporting.sweep_figures import (
    SweepResults,
    frontier_figure,
    importance_figure,
    parallel_figure,
    progress_figure,
    short_names,
    text_of,
)
from splitlearn.sweep.frontiers import TEST, Axes, parameters_of
from splitlearn.sweep.pareto import hypervolume
from splitlearn.sweep.trial import State, Trial

CONFIG, RESULTS = "config.yaml", "results.json"  # in a trial's folder
SIZES = ("val/bytes_per_image", "test/bytes_per_image")
COSTS = "bottleneck/"
FEW = 4  # finished trials below which importances say nothing


def sweep_html(sweeps: Sequence[SweepResults], axes: Axes, path: Path) -> None:
    """Write a page of sweeps: frontiers, parallel coordinates, importance of parameters, progress over time.

    Pointing at a trial shows its parameters, sizes, scores, multiply–accumulates and the path of its config. The file
    contains all it needs, plotly's script included.

    Args:
        sweeps: the sweeps, each with a name of its own.
        axes: the two metrics, which all sweeps measured.
        path: the HTML file.

    Raises:
        ImportError: if plotly is not installed.
        ValueError: if there are no sweeps, or one has finished trials without these metrics.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("the HTML report needs plotly: pip install 'splitlearn[viz]'") from error
    if not sweeps:
        raise ValueError("a report needs one sweep or more")
    for sweep in sweeps:
        if lacking := [m for m in (axes.rate, axes.score) if any(m not in t.metrics for t in sweep.finished)]:
            raise ValueError(f"{sweep.name} did not measure {' and '.join(lacking)}: name metrics that all sweeps have")
    title = ", ".join(sweep.name for sweep in sweeps)
    sections = [*_frontier_sections(sweeps, axes), *_parameter_sections(sweeps, axes)]
    if any(not math.isnan(trial.ended) for sweep in sweeps for trial in sweep.finished):
        about = "Area between frontier and worst rate and score, as a share of the largest."
        sections.append(_section("Progress over time", about, _drawn(progress_figure(sweeps, axes), "progress")))
    page = files(__package__).joinpath("sweep_page.html").read_text(encoding="utf-8")
    for name, text in {
        "TITLE": escape(title),
        "WRITTEN": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "SUMMARY": _summary(sweeps, axes),
        "SECTIONS": "\n".join(sections),
        "TRIALS": _in_script([[_told(sweep, trial, axes) for trial in sweep.trials] for sweep in sweeps]),
        "PLOTLY": get_plotlyjs(),
    }.items():
        page = page.replace(f"<!--{name}-->", text)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _frontier_sections(sweeps: Sequence[SweepResults], axes: Axes) -> list[str]:
    shown = (  # the panel stands first, so that the plot is drawn in the space that is left
        '<div class="beside"><aside id="trial"><p>Point at a trial to see it here; click to keep it.</p></aside>'
        f'<div class="plot">{_drawn(frontier_figure(sweeps, axes), "frontier")}</div></div>'
    )
    about = "Trials that no other beats in both rate and score, among all finished trials."
    return [_section("Frontier", about, shown), *(_frontier_table(sweep, axes) for sweep in sweeps)]


def _parameter_sections(sweeps: Sequence[SweepResults], axes: Axes) -> list[str]:
    found = []
    for number, sweep in enumerate(sweeps):
        if len(sweep.finished) > 1 and parameters_of(sweep.finished):
            about = "A line for each trial. Drag along an axis to choose trials; none: no such parameter."
            drawn = _drawn(parallel_figure(sweep, axes), f"parallel_{number}")
            found.append(_section(f"Parameters of {sweep.name}", about, drawn))
    figure = importance_figure(sweeps, axes)
    about = "Share of the variance of rate (on a log scale) and score that a parameter explains (fANOVA)."
    nothing = f"<p>Fewer than {FEW} trials have finished, or all measured the same: nothing can be told.</p>"
    drawn = nothing if figure is None else _drawn(figure, "importance")
    return [*found, _section("Importance of parameters", about, drawn)]


def _summary(sweeps: Sequence[SweepResults], axes: Axes) -> str:
    points = [point for sweep in sweeps for point in axes.points(sweep.finished)]
    worst = max((rate for rate, _ in points), default=0.0), min((score for _, score in points), default=0.0)
    states = [state for state in State if any(trial.state is state for sweep in sweeps for trial in sweep.trials)]
    rows = []
    for sweep in sweeps:
        frontier = axes.frontier(sweep.trials)
        ends = [(trial.metrics[axes.rate], trial.metrics[axes.score]) for trial in frontier]
        best = [text_of(min(rate for rate, _ in ends)), text_of(max(score for _, score in ends))] if ends else ["", ""]
        counts = [sum(trial.state is state for trial in sweep.trials) for state in states]
        volume = text_of(float(hypervolume(axes.points(frontier), *worst)))
        rows.append([sweep.name, *counts, len(frontier), *best, volume])
    names = [*(state.value for state in states), "on the frontier", f"lowest {axes.rate}", f"best {axes.score}"]
    return _table(["sweep", *names, "hypervolume"], rows)


def _frontier_table(sweep: SweepResults, axes: Axes) -> str:
    frontier = axes.frontier(sweep.trials)
    if not frontier:
        return f"<p>No trial of {escape(sweep.name)} has finished.</p>"
    wanted = (axes.rate, axes.score, *SIZES, axes.tested.rate, axes.tested.score, f"{COSTS}encoder_macs")
    metrics = [name for name in dict.fromkeys(wanted) if any(name in trial.metrics for trial in frontier)]
    short = short_names(parameters_of(frontier))
    rows = [
        [trial.number, *(text_of(trial.metrics.get(name, "–")) for name in metrics)]
        + [text_of(trial.values.get(name, "–")) for name in short]
        for trial in frontier
    ]
    table = _table(["trial", *metrics, *short.values()], rows)
    return f"<details><summary>Frontier of {escape(sweep.name)} as a table</summary>{table}</details>"


def _told(sweep: SweepResults, trial: Trial, axes: Axes) -> dict[str, Any]:
    """Return what the page shows of a trial: its title and rows of name and text."""
    first = [name for name in (axes.rate, axes.score, *SIZES) if name in trial.metrics]
    tested = [name for name in trial.metrics if name.startswith(TEST)]
    costs = [name for name in trial.metrics if name.startswith(COSTS)]
    named = list(dict.fromkeys([*first, *tested, *costs, *(n for n in trial.metrics if n.startswith("val/"))]))
    measured = [[name, f"{trial.metrics[name]:,.6g}"] for name in named]
    short = short_names(parameters_of(sweep.trials))
    setting = [[short[name], text_of(value)] for name, value in trial.values.items()]
    seconds = [] if math.isnan(trial.seconds) else [["seconds", f"{trial.seconds:.1f}"]]
    return {
        "number": trial.number,
        "title": f"{sweep.name}, trial {trial.number}",
        "setting": setting,
        "measured": [*measured, *seconds],
        "config": _config(sweep, trial),
    }


def _config(sweep: SweepResults, trial: Trial) -> str:
    """Return the path of a trial's config; empty if it is not on this machine."""
    if sweep.folder is None:
        return ""
    folder = sweep.folder / "trials" / f"{trial.number:03}"
    return next((str(folder / name) for name in (CONFIG, RESULTS) if (folder / name).is_file()), "")


def _drawn(figure: Any, name: str) -> str:
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False, "responsive": True}
    )
    return drawn


def _section(title: str, about: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(about)}</p>{content}</section>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _in_script(content: Any) -> str:
    """Return content as JSON that cannot end the script that it stands in."""
    return json.dumps(content).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
