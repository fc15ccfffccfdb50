"""Plots with several panels of lines, such as scores and bytes of several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from splitlearn.reporting.figures import figure_file, line_style
from splitlearn.reporting.log_ticks import plain_log_ticks

DASHES = "--", ":", "-."


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        heading: text above the axes; empty for none.
        curves: points (x, y) by label.
        x: label of the x axis, with its unit.
        y: label of the y axis, with its unit.
        lines: y values of horizontal lines by label. A line with the label of a curve has the colour of that curve and
            no entry in the legend; other lines are black.
        log: whether y is logarithmic.
    """

    heading: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    x: str
    y: str
    lines: Mapping[str, float] = field(default_factory=dict)
    log: bool = False


def plot_panels(panels: Sequence[Panel], path: str | Path, title: str, legend: str | None = None) -> None:
    """Plot panels, up to three in a row, with a title; a label has the same colour in all panels.

    Panels with equal labels share one legend, others have one each. Raises ValueError if there are no panels.
    """
    if not panels:
        raise ValueError("there are no panels to draw")
    columns = 3 if len(panels) > 4 else min(len(panels), 2)
    numbers = {label: i for i, label in enumerate(dict.fromkeys(label for panel in panels for label in panel.curves))}
    shared = len(panels) > 1 and len({tuple(panel.curves) for panel in panels}) == 1
    with figure_file(path, len(panels), columns, title=title) as (figure, grid):
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, numbers)
        found = [dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)) for axes in grid]
        if shared:
            _legend(figure, {label: handle for each in found for label, handle in each.items()}, 2 * columns, legend)
        else:
            for axes, each in zip(grid, found, strict=True):
                _legend(axes, each, 2, legend, upper=-0.14)


def _legend(owner: Any, found: Mapping[str, Any], widest: int, title: str | None, upper: float | None = None) -> None:
    """Put a legend below a figure or a pair of axes, in as few rows as `widest` columns allow."""
    columns = ceil(len(found) / ceil(len(found) / widest))
    place: dict[str, Any] = {"loc": "outside lower center"}
    if upper is not None:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, upper)}
    owner.legend(list(found.values()), list(found), ncols=columns, fontsize=8, title=title, title_fontsize=8, **place)


def _draw(axes: Any, panel: Panel, numbers: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    for label, curve in panel.curves.items():
        points = sorted(curve)
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **line_style(numbers[label]))
    black = [label for label in panel.lines if label not in panel.curves]
    for label, height in panel.lines.items():
        if label in black:
            dashes = DASHES[black.index(label) % len(DASHES)]
            axes.axhline(height, color="black", linewidth=1.1, linestyle=dashes, label=label)
        else:
            axes.axhline(height, color=line_style(numbers[label])["color"], linewidth=0.9, linestyle=":")
    axes.set(xlabel=panel.x, ylabel=panel.y, yscale="log" if panel.log else "linear")
    if panel.log:
        plain_log_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    axes.set_title(panel.heading, fontsize=10)
    axes.grid(visible=True, which="both" if panel.log else "major", alpha=0.3)
