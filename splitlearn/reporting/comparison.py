"""Methods side by side: accuracy against the bytes that crossed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from splitlearn.files import whole_file, write_json
from splitlearn.reporting.log_ticks import plain_log_ticks


@dataclass(frozen=True)
class Comparison:
    """One method's measured point.

    Attributes:
        method: what the points of one curve share.
        setting: what tells this point from the others of its method; may be empty.
        accuracy: share of images classified correctly, 0…1.
        bytes_per_image: mean payload, everything in it counted.
        bits_per_pixel: payload bits over pixels of the network's input.
        table_bytes: static code tables that are sent once, with the weights.
    """

    method: str
    setting: str
    accuracy: float
    bytes_per_image: float
    bits_per_pixel: float
    table_bytes: int = 0

    @classmethod
    def from_metrics(cls, method: str, setting: str, metrics: Mapping[str, Any]) -> Comparison:
        """Take a point from what a test logged."""
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
        row = f"{100 * p.accuracy:.2f}", f"{p.bytes_per_image:,.1f}", f"{p.bits_per_pixel:.3f}"
        table.add_row(p.method, p.setting, *row)
    return table


def markdown_table(points: Sequence[Comparison]) -> str:
    """Return the points as a Markdown table."""
    lines = ["| method | setting | accuracy % | bytes/image | bits/pixel | tables, once |", "|---|---|--:|--:|--:|--:|"]
    lines += [
        f"| {p.method} | {p.setting} | {100 * p.accuracy:.2f} | {p.bytes_per_image:,.1f} | {p.bits_per_pixel:.3f} "
        f"| {p.table_bytes or '–'} |"
        for p in points
    ]
    return "\n".join(lines) + "\n"


def write_comparison(points: Sequence[Comparison], folder: Path, title: str, about: Mapping[str, Any]) -> None:
    """Leave `results.json` and `rate_accuracy.png` in `folder`.

    Args:
        points: all methods' points.
        folder: made if absent.
        title: heading of the plot.
        about: data, seed, machine, command, date: what it takes to read and repeat the figures.
    """
    write_json(folder / "results.json", {**about, "points": [asdict(p) for p in points]})
    plot_comparison(points, folder / "rate_accuracy.png", title)


def plot_comparison(points: Sequence[Comparison], path: Path, title: str) -> None:
    """Draw accuracy against bytes an image, one line a method."""
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for number, method in enumerate(dict.fromkeys(p.method for p in points)):
        curve = sorted((p for p in points if p.method == method), key=lambda p: p.bytes_per_image)
        axes.plot(
            [p.bytes_per_image for p in curve],
            [100 * p.accuracy for p in curve],
            marker="osD^vP*X"[number % 8],
            label=method,
        )
    axes.set(xscale="log", xlabel="payload (bytes per image, log scale)", ylabel="top-1 accuracy (%)", title=title)
    plain_log_ticks(axes.xaxis)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
