"""Comparison of methods: accuracy against payload size, as tables, a plot and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from splitlearn.files import write_json
from splitlearn.reporting.figures import figure_file, line_style
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.markdown import markdown_table


@dataclass(frozen=True)
class Comparison:
    """One measured point (accuracy against payload size) of a method.

    Attributes:
        method: name of the curve that the point belongs to.
        setting: name that distinguishes the points of one method; may be empty.
        accuracy: share of images classified correctly, 0…1.
        bytes_per_image: mean payload size in bytes, headers included.
        bits_per_pixel: bits of the payload divided by the pixels of the network's input.
        table_bytes: size in bytes of the static code tables, which are sent once with the weights.
    """

    method: str
    setting: str
    accuracy: float
    bytes_per_image: float
    bits_per_pixel: float
    table_bytes: int = 0

    @classmethod
    def from_metrics(cls, method: str, setting: str, metrics: Mapping[str, Any]) -> Comparison:
        """Return the point of a test run from the metrics that it logged.

        Reads `test/accuracy`, `test/bytes_per_image`, `test/bits_per_pixel` and, if present, `test/table_bytes`.

        Raises:
            KeyError: if one of the first three is missing.
        """
        return cls(
            method,
            setting,
            accuracy=float(metrics["test/accuracy"]),
            bytes_per_image=float(metrics["test/bytes_per_image"]),
            bits_per_pixel=float(metrics["test/bits_per_pixel"]),
            table_bytes=int(metrics.get("test/table_bytes", 0)),
        )


def comparison_table(points: Sequence[Comparison], title: str) -> Table:
    """Return the points as a table for the terminal."""
    table = Table(title=title)
    for column in ("method", "setting", "accuracy %", "bytes/image", "bits/pixel"):
        table.add_column(column, justify="left" if column in ("method", "setting") else "right")
    for p in points:
        table.add_row(*_cells(p))
    return table


def comparison_markdown(points: Sequence[Comparison]) -> str:
    """Return the points as a Markdown table."""
    headings = ["method", "setting", "accuracy %", "bytes/image", "bits/pixel", "tables, once"]
    return markdown_table(headings, ([*_cells(p), p.table_bytes or "–"] for p in points), "llr")


def _cells(p: Comparison) -> list[str]:
    return [p.method, p.setting, f"{100 * p.accuracy:.2f}", f"{p.bytes_per_image:,.1f}", f"{p.bits_per_pixel:.3f}"]


def write_comparison(points: Sequence[Comparison], folder: Path, title: str, about: Mapping[str, Any]) -> None:
    """Write `results.json` and `rate_accuracy.png` to `folder`.

    Args:
        points: points of all methods.
        folder: folder for the files, made if absent.
        title: heading of the plot.
        about: further entries of `results.json`, such as data, seed, machine, command and date.
    """
    write_json(folder / "results.json", {**about, "points": [asdict(p) for p in points]})
    _plot(points, folder / "rate_accuracy.png", title)


def _plot(points: Sequence[Comparison], path: Path, title: str) -> None:
    """Draw accuracy against bytes per image, one line for each method."""
    with figure_file(path) as (_, (axes,)):
        for number, method in enumerate(dict.fromkeys(p.method for p in points)):
            curve = sorted((p for p in points if p.method == method), key=lambda p: p.bytes_per_image)
            sizes, accuracies = [p.bytes_per_image for p in curve], [100 * p.accuracy for p in curve]
            axes.plot(sizes, accuracies, label=method, **line_style(number))
        axes.set(xscale="log", xlabel="payload (bytes per image, log scale)", ylabel="top-1 accuracy (%)", title=title)
        plain_log_ticks(axes.xaxis)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
