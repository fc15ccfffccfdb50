"""Plans of a division between device and edge server: a table for the terminal, a CSV file and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.table import Table

from splitlearn.reporting.csv_files import write_csv
from splitlearn.reporting.figures import figure_file
from splitlearn.reporting.terminal import decimal

UNKNOWN = "?"
PARTS = ("device_ms", "encode_ms", "link_ms", "decode_ms", "edge_ms")


class PlannedChoice(Protocol):
    """One way to divide the work, such as `splitlearn.runtime.planner.Choice`; None stands for an unknown value."""

    @property
    def name(self) -> str:
        """Name of the choice, as shown to users."""

    @property
    def device_ms(self) -> float:
        """Milliseconds on the device, without encoding."""

    @property
    def encode_ms(self) -> float:
        """Milliseconds of encoding on the device."""

    @property
    def link_ms(self) -> float | None:
        """Milliseconds on the link."""

    @property
    def decode_ms(self) -> float:
        """Milliseconds of decoding on the edge server."""

    @property
    def edge_ms(self) -> float:
        """Milliseconds on the edge server, without decoding."""

    @property
    def total_ms(self) -> float | None:
        """Milliseconds from image to answer."""

    @property
    def bytes_per_image(self) -> float | None:
        """Payload size."""

    @property
    def score(self) -> float | None:
        """Measured quality."""


def plan_table(choices: Sequence[PlannedChoice], best: PlannedChoice, title: str, deadline_ms: float | None) -> Table:
    """Return a table with one row for each choice; the fastest is bold.

    Args:
        choices: the choices, in the order of the rows.
        best: the fastest choice.
        title: title of the table.
        deadline_ms: longest time for an answer; None omits the column that compares with it.
    """
    table = Table(title=title)
    table.add_column("choice", no_wrap=True)
    headings = ("device\nms", "encode\nms", "link\nms", "decode\nms", "edge\nms", "total\nms", "bytes", "score")
    for heading in (*headings, *(() if deadline_ms is None else ("in\ntime",))):
        table.add_column(heading, justify="right", no_wrap=True)
    for choice in choices:
        cells = [_ms(getattr(choice, part)) for part in PARTS] + [_ms(choice.total_ms)]
        cells.append(UNKNOWN if choice.bytes_per_image is None else f"{choice.bytes_per_image:,.0f}")
        cells.append(decimal(choice.score, 4))
        if deadline_ms is not None:
            cells.append({True: "yes", False: "no", None: UNKNOWN}[_in_time(choice, deadline_ms)])
        table.add_row(choice.name, *cells, style="bold" if choice is best else None)
    return table


def write_plan(choices: Sequence[PlannedChoice], title: str, deadline_ms: float | None, folder: Path) -> None:
    """Write plan.csv and plan.png to a folder, which is made if absent.

    Args:
        choices: the choices, in the order of the rows.
        title: title of the plot.
        deadline_ms: longest time for an answer; None if there is none.
        folder: folder for the files.
    """
    columns = ("name", *PARTS, "total_ms", "bytes_per_image", "score")
    rows = [[*(getattr(choice, column) for column in columns), _in_time(choice, deadline_ms)] for choice in choices]
    write_csv(folder / "plan.csv", ["choice", *columns[1:], "in_time"], rows)
    _plot([choice for choice in choices if choice.total_ms is not None], title, deadline_ms, folder / "plan.png")


def _in_time(choice: PlannedChoice, deadline_ms: float | None) -> bool | None:
    """Return whether a choice meets the deadline; None without one, or if its latency is not known."""
    return None if choice.total_ms is None or deadline_ms is None else choice.total_ms <= deadline_ms


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f}"


def _plot(choices: Sequence[PlannedChoice], title: str, deadline_ms: float | None, path: Path) -> None:
    """Stacked bars of the parts of each choice whose latency is known."""
    with figure_file(path, size=(8, min(max(2.5, 0.35 * len(choices) + 1.2), 20))) as (_, (axes,)):
        places = range(len(choices))
        left = [0.0] * len(choices)
        for part in PARTS:
            widths = [getattr(choice, part) for choice in choices]
            axes.barh(places, widths, left=left, label=part.removesuffix("_ms"))
            left = [one + other for one, other in zip(left, widths, strict=True)]
        if deadline_ms is not None:
            axes.axvline(deadline_ms, color="black", linewidth=0.8, linestyle=":", label="deadline")
        axes.set_yticks(places, [choice.name for choice in choices], fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel="milliseconds from image to answer", title=title)
        axes.legend(fontsize=8)
