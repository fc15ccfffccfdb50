"""Markdown table and plot of the scores and rates of several quantizers and codecs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from splitlearn.analysis.rate_points import RatePoint
from splitlearn.reporting.figures import figure_file, line_style
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.markdown import markdown_table

SHOWN = 0.2  # plots leave out what scores further below the unsplit network
SIZE = (9.5, 4.5)  # inches, with the legend beside the axes


def rates_markdown(points: Sequence[RatePoint], score: str) -> str:
    """Return the points as a Markdown table.

    Args:
        points: points in the order of the rows.
        score: heading of the score's column, e.g. "top-1 %".
    """
    headings = ["method", "setting", "codec", score, "bytes/image", "bits/element", "tables, once"]

    def row(p: RatePoint) -> tuple[object, ...]:
        sizes = f"{p.bytes_per_image:,.0f}", f"{p.bits_per_element:.3f}", p.table_bytes or "–"
        return p.method, p.setting, p.codec, f"{100 * p.score:.2f}", *sizes

    return markdown_table(headings, map(row, points), "lllr")


def plot_rates(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    unsplit: float,
    path: Path,
    title: str,
    score: str,
    rate: str = "payload (bytes per image, log scale)",
) -> None:
    """Plot score against rate, one line per curve, with lines at the unsplit network's score and one point below it.

    Args:
        curves: points (rate, score 0…1) by label.
        unsplit: score of the network that is not split, 0…1.
        path: path of the image file.
        title: title of the plot.
        score: label of the score axis with its unit, e.g. "top-1 accuracy (%)".
        rate: label of the rate axis with its unit.
    """
    shown = [(x, y) for curve in curves.values() for x, y in curve if y > unsplit - SHOWN]
    lowest = min((y for _, y in shown), default=unsplit)
    with figure_file(path, size=SIZE) as (figure, (axes,)):
        for number, (label, curve) in enumerate(curves.items()):
            points = sorted(curve)
            seen = label if any(y > unsplit - SHOWN for _, y in points) else f"{label} (below)"
            axes.plot([x for x, _ in points], [100 * y for _, y in points], label=seen, **line_style(number))
        axes.axhline(100 * unsplit, color="black", linewidth=1, label="unsplit")
        axes.axhline(100 * unsplit - 1, color="black", linewidth=0.8, linestyle=":", label="one point below")
        axes.set(xscale="log", xlabel=rate, ylabel=score, title=title, ylim=(100 * lowest - 2, 100 * unsplit + 2))
        if rates := [x for x, _ in shown if x > 0]:
            axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        plain_log_ticks(axes.xaxis)
        axes.grid(visible=True, which="both", alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=8)  # so many curves leave no room between them
