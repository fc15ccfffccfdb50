"""Figures as image files: a context manager that makes, saves and closes a figure, and the style of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitlearn.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
SIZES = {1: (7.0, 4.5), 2: (9.5, 4.2), 3: (11.0, 3.3)}
"""Width and height of a row of axes in inches, by the number of axes in it."""

MARKERS = "osD^vP*X<>ph"
COLOURS = 10  # in matplotlib's default cycle, C0 to C9


@contextmanager
def figure_file(
    path: str | Path,
    count: int = 1,
    columns: int = 1,
    size: tuple[float, float] | None = None,
    title: str = "",
    sharex: bool = False,
    sharey: bool = False,
    heights: Sequence[float] | None = None,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Context manager that yields a figure and its axes, and saves the figure after a `with` block without error.

    Args:
        path: path of the image file; its folder is made if absent.
        count: number of axes, filled row by row.
        columns: number of columns of axes.
        size: width and height of the whole figure in inches; by default that of `SIZES` for each row.
        title: title of the whole figure; empty for none.
        sharex: whether all axes have the same x axis.
        sharey: whether all axes have the same y axis.
        heights: relative heights of the rows; None if equal.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed where something is drawn

    rows = ceil(count / columns)
    width, height = SIZES[min(columns, max(SIZES))]
    figure = Figure(figsize=size or (width, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey, height_ratios=heights)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.remove()
    yield figure, axes[:count]
    if title:
        figure.suptitle(title, fontsize=11)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def line_style(number: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the line with this number, as arguments of `Axes.plot`."""
    dashes = "-" if number < COLOURS else "--"
    marker = MARKERS[number % len(MARKERS)]
    return {"color": f"C{number % COLOURS}", "linestyle": dashes, "marker": marker, "markersize": 4.5}
