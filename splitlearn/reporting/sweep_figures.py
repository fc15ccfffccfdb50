"""Interactive figures of sweeps, for pages that plotly's script draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitlearn.sweep.frontiers import Axes, parameters_of
from splitlearn.sweep.importance import importances
from splitlearn.sweep.pareto import hypervolume
from splitlearn.sweep.trial import State, Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")  # told apart by all eyes
GRID = "#e6e6e6"
DECADE = 10  # ratio of the ends of a range from which it is drawn on a log scale
TICKS = 6  # the most values that an axis of parallel coordinates names one by one
ABSENT = "none"  # a parameter that does not exist with the trial's other values


@dataclass(frozen=True)
class SweepResults:
    """The trials of a sweep, for a report.

    Attributes:
        name: name of the sweep.
        trials: its trials.
        folder: its folder, which holds a folder trials/NNN for each trial; None if it is elsewhere.
    """

    name: str
    trials: Sequence[Trial] = field(repr=False)
    folder: Path | None = None

    @property
    def finished(self) -> list[Trial]:
        """The trials that have finished, in order of their ends."""
        found = [trial for trial in self.trials if trial.state is State.FINISHED]
        return sorted(found, key=lambda trial: math.inf if math.isnan(trial.ended) else trial.ended)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of paths that tell them apart, by path."""
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        others = [other for other in paths if other != path]
        found[path] = next((end for end in ends if not any(f".{o}".endswith(f".{end}") for o in others)), path)
    return found


def text_of(value: object) -> str:
    """Return a value as text of a few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def frontier_figure(sweeps: Sequence[SweepResults], axes: Axes) -> Figure:
    """Return all finished trials, with the frontier of each sweep as a line.

    Each point's customdata are the numbers of its sweep and of its trial.
    """
    from plotly.graph_objects import Scatter

    figure = _figure(520)
    for number, sweep in enumerate(sweeps):
        frontier = axes.frontier(sweep.trials)
        chosen = {trial.number for trial in frontier}
        others = [trial for trial in sweep.finished if trial.number not in chosen]
        name, colour = escape(sweep.name), COLOURS[number % len(COLOURS)]
        marker = {"color": colour, "opacity": 0.4, "size": 8}
        for group, mode, title, style in (
            (others, "markers", f"{name}: other trials", marker),
            (frontier, "lines+markers", f"{name}: frontier", marker | {"opacity": 1, "size": 10}),
        ):
            rates, scores = zip(*axes.points(group), strict=True) if group else ((), ())
            figure.add_trace(
                Scatter(
                    x=rates,
                    y=scores,
                    mode=mode,
                    name=title,
                    marker=style,
                    line={"color": colour, "width": 2},
                    customdata=[[number, trial.number] for trial in group],
                    text=[f"{name}, trial {trial.number}" for trial in group],
                    hovertemplate="%{text}<br>%{x:.4~g} → %{y:.4~g}<extra></extra>",
                )
            )
        if tested := axes.points_on_test_images(frontier):
            rates, scores = zip(*tested, strict=True)
            title = f"{name}: frontier, on test images"
            style = {"color": colour, "symbol": "x-thin", "size": 9, "line": {"color": colour, "width": 2}}
            figure.add_trace(Scatter(x=rates, y=scores, mode="markers", name=title, marker=style))
    figure.update_xaxes(type="log", title=_title(axes.rate), dtick="D2", tickformat="~r")
    figure.update_yaxes(title=_title(axes.score))
    return figure


def parallel_figure(sweep: SweepResults, axes: Axes) -> Figure:
    """Return parallel coordinates: a line for each finished trial through its parameters, rate and score."""
    from plotly.graph_objects import Parcoords

    trials = sweep.finished
    names = short_names(parameters_of(trials))
    dimensions = [
        {"label": escape(short)} | _axis([trial.values.get(path, ABSENT) for trial in trials])
        for path, short in names.items()
    ]
    for metric in (axes.rate, axes.score):
        dimensions.append({"label": _title(metric)} | _axis([trial.metrics[metric] for trial in trials]))
    scores = [trial.metrics[axes.score] for trial in trials]
    line = {"color": scores, "colorscale": "Viridis", "showscale": True, "colorbar": {"title": _title(axes.score)}}
    figure = _figure(420)
    figure.add_trace(Parcoords(dimensions=dimensions, line=line, labelangle=-12, labelside="top"))
    figure.update_layout(margin={"l": 90, "r": 40, "t": 110, "b": 30})
    return figure


def importance_figure(sweeps: Sequence[SweepResults], axes: Axes) -> Figure | None:
    """Return the share of the variance of rate and score that each parameter explains; None if nothing can be told."""
    from plotly.graph_objects import Bar

    metrics = [axes.rate, axes.score]
    found = {(n, metric): importances(sweep.trials, metric) for n, sweep in enumerate(sweeps) for metric in metrics}
    paths = sorted({path for shares in found.values() for path in shares}, key=lambda p: _largest(found, p))
    if not paths:
        return None
    short, figure = short_names(paths), _figure(120 + 26 * len(paths) * len(sweeps))
    for number, sweep in enumerate(sweeps):
        colour = COLOURS[number % len(COLOURS)]
        for metric, pattern in zip(metrics, ("", "/"), strict=True):
            shares = found[number, metric]
            title = _title(metric) if len(sweeps) == 1 else f"{escape(sweep.name)}: {_title(metric)}"
            figure.add_trace(
                Bar(
                    x=[shares.get(path, 0.0) for path in paths],
                    y=[escape(short[path]) for path in paths],
                    name=title,
                    orientation="h",
                    marker={"color": colour, "pattern": {"shape": pattern}},
                    hovertemplate="%{y}: %{x:.0%}<extra>" + title + "</extra>",
                )
            )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", title="share of the variance")
    figure.update_layout(barmode="group", margin={"l": 140})
    return figure


def progress_figure(sweeps: Sequence[SweepResults], axes: Axes) -> Figure:
    """Return the hypervolume of the trials that had finished at each time, as a share of the largest of all sweeps."""
    from plotly.graph_objects import Scatter

    points = [point for sweep in sweeps for point in axes.points(sweep.finished) if not any(map(math.isnan, point))]
    worst = max((rate for rate, _ in points), default=0.0), min((score for _, score in points), default=0.0)
    curves = []
    for sweep in sweeps:
        done = [trial for trial in sweep.finished if not math.isnan(trial.ended)]
        begun = min((trial.ended - trial.seconds for trial in done), default=0.0)
        hours = [(trial.ended - begun) / 3600 for trial in done]
        curves.append((hours, [hypervolume(axes.points(done[: n + 1]), *worst) for n in range(len(done))]))
    largest = max((volume for _, volumes in curves for volume in volumes), default=0.0) or 1.0
    unit, factor = ("minutes", 60) if max((h for hours, _ in curves for h in hours), default=0.0) < 2 else ("hours", 1)
    figure = _figure(360)
    for number, (sweep, (hours, volumes)) in enumerate(zip(sweeps, curves, strict=True)):
        figure.add_trace(
            Scatter(
                x=[factor * hour for hour in hours],
                y=[volume / largest for volume in volumes],
                mode="lines+markers",
                line={"shape": "hv", "color": COLOURS[number % len(COLOURS)]},
                name=escape(sweep.name),
                text=[f"{n + 1} of {len(sweep.trials)} trials finished" for n in range(len(hours))],
                hovertemplate="%{y:.1%} after %{x:.3~g} " + unit + "<br>%{text}<extra></extra>",
            )
        )
    figure.update_xaxes(title=f"{unit} since the start", rangemode="tozero")
    figure.update_yaxes(title="hypervolume", tickformat=".0%", rangemode="tozero")
    figure.update_layout(showlegend=len(sweeps) > 1)
    return figure


def _figure(height: int) -> Figure:
    from plotly.graph_objects import Figure

    layout = {"height": height, "margin": {"l": 70, "r": 40, "t": 20, "b": 60}, "plot_bgcolor": "white"}
    figure = Figure(layout=layout | {"font": {"family": "system-ui, sans-serif", "size": 13}, "template": "none"})
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, hovermode="closest")
    figure.update_layout(modebar={"orientation": "v", "bgcolor": "rgba(0, 0, 0, 0)"})
    return figure


def _title(metric: str) -> str:
    return escape(metric.replace("_", " "))


def _largest(found: Mapping[Any, Mapping[str, float]], path: str) -> float:
    return max(shares.get(path, 0.0) for shares in found.values())


def _axis(values: Sequence[object]) -> dict[str, Any]:
    """Return one axis of parallel coordinates: numbers, on a log scale over a decade and more, or words in order.

    Where a parameter does not exist, its line passes below all others.
    """
    numbers = sorted({float(each) for each in values if isinstance(each, (int, float))})
    has_words = any(not isinstance(each, (int, float)) and each != ABSENT for each in values)
    if has_words or not numbers:
        words = sorted(set(map(str, values)), reverse=True)
        short = short_names([word for word in words if all(part.isidentifier() for part in word.split("."))])
        order, texts = [words.index(str(each)) for each in values], [escape(short.get(word, word)) for word in words]
        return {"values": order, "tickvals": list(range(len(words))), "ticktext": texts}
    low, high = numbers[0], numbers[-1]
    is_log = low > 0 and high >= DECADE * low

    def place(each: float) -> float:
        return math.log10(each) if is_log else each

    span = (place(high) - place(low)) or 1.0
    below = place(low) - 0.15 * span
    few = [place(each) for each in numbers]
    ticks = few if len(few) <= TICKS else [place(low) + share * span for share in (0, 0.25, 0.5, 0.75, 1)]
    texts = [f"{10**tick if is_log else tick:.3g}" for tick in ticks]
    if ABSENT in values:
        ticks, texts = [below, *ticks], [ABSENT, *texts]
    places = [place(float(v)) if isinstance(v, (int, float)) else below for v in values]
    return {"values": places, "tickvals": ticks, "ticktext": texts, "range": [min([*places, *ticks]), max(ticks)]}
