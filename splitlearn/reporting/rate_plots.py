"""Lines in panels: scores and bytes of many networks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from splitlearn.files import whole_file
from splitlearn.reporting.log_ticks import plain_log_ticks

MARKERS = "osD^vP*X"
DASHES = "--", ":", "-."


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        heading: above it; empty for none.
        curves: points (x, y) by label.
        x: what stands along x, with its unit.
        y: what stands along y, with its unit.
        lines: heights of horizontal lines by label; one that is called like a curve takes its colour and no room in the
            legend, any other is black.
        log: whether y is logarithmic.
    """

    heading: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    x: str
    y: str
    lines: Mapping[str, float] = field(default_factory=dict)
    log: bool = False


def plot_panels(panels: Sequence[Panel], path: str | Path, title: str, legend: str | None = None) -> None:
    """Draw panels, up to three in a row; a label has the same colour in all of them.

    Panels with the same curves share one legend below, others have one each.

    Args:
        panels: at least one.
        path: of the image; its folder is made if absent.
        title: of the whole.
        legend: heading of the legends.

    Raises:
        ValueError: if there are no panels.
    """
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    if not panels:
        raise ValueError("there are no panels to draw")
    columns = 3 if len(panels) > 4 else min(len(panels), 2)
    rows = ceil(len(panels) / columns)
    width, height = {1: (7, 4.5), 2: (9.5, 4.2), 3: (11, 3.3)}[columns]
    figure, grid = plt.subplots(rows, columns, figsize=(width, height * rows), layout="constrained", squeeze=False)
    numbers = {label: i for i, label in enumerate(dict.fromkeys(label for panel in panels for label in panel.curves))}
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel, numbers)
    for spare in list(grid.flat)[len(panels) :]:
        spare.remove()
    drawn = list(grid.flat)[: len(panels)]
    found = [dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)) for axes in drawn]
    shared = len(panels) > 1 and len({tuple(panel.curves) for panel in panels}) == 1
    if shared:
        _legend(figure, {label: handle for each in found for label, handle in each.items()}, 2 * columns, legend)
    else:
        for axes, each in zip(drawn, found, strict=True):
            _legend(axes, each, 2, legend, upper=-0.14)
    figure.suptitle(title, fontsize=11)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _legend(owner: Any, found: Mapping[str, Any], widest: int, title: str | None, upper: float | None = None) -> None:
    """Put a legend below a figure or a pair of axes, in as few rows as the widest allows."""
    columns = ceil(len(found) / ceil(len(found) / widest))
    place: dict[str, Any] = {"loc": "outside lower center"}
    if upper is not None:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, upper)}
    owner.legend(list(found.values()), list(found), ncols=columns, fontsize=8, title=title, title_fontsize=8, **place)


def _draw(axes: Any, panel: Panel, numbers: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    for label, curve in panel.curves.items():
        points, number = sorted(curve), numbers[label]
        style: dict[str, Any] = {"marker": MARKERS[number % 8], "markersize": 4.5, "color": f"C{number % 10}"}
        if number >= 10:  # as many colours as there are
            style["linestyle"] = "--"
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
    black = [label for label in panel.lines if label not in panel.curves]
    for label, height in panel.lines.items():
        if label in black:
            dashes = DASHES[black.index(label) % len(DASHES)]
            axes.axhline(height, color="black", linewidth=1.1, linestyle=dashes, label=label)
        else:
            axes.axhline(height, color=f"C{numbers[label] % 10}", linewidth=0.9, linestyle=":")
    axes.set(xlabel=panel.x, ylabel=panel.y, yscale="log" if panel.log else "linear")
    if panel.log:
        plain_log_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    axes.set_title(panel.heading, fontsize=10)
    axes.grid(visible=True, which="both" if panel.log else "major", alpha=0.3)
