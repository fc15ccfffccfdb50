"""Plots of what analyses of features found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from splitlearn.analysis.distribution import SHARES, Distribution
from splitlearn.analysis.entropy import ContextEntropy
from splitlearn.analysis.spectrum import SpectrumPoint
from splitlearn.files import whole_file

SIZE = 7, 4.5  # inches, of one panel


def plot_distributions(
    panels: Mapping[str, Sequence[Distribution]], path: str | Path, title: str, label: str = "coefficient"
) -> None:
    """Draw empirical CDFs, one panel for each source, all on the same axes; the first of each panel is drawn bold.

    Args:
        panels: distributions by the heading of their panel.
        path: of the image; its folder is made if absent.
        title: of the whole.
        label: of the x axis, where one coefficient's unit is that of the network's activations.
    """
    figure, axes = _panels(len(panels), sharex=True, sharey=True)
    for axis, (heading, found) in zip(axes, panels.items(), strict=True):
        for number, one in enumerate(found):
            style: dict[str, Any] = {"color": f"C{number - 1}", "linewidth": 1.2, "zorder": 3}
            if number == 0:
                style = {"color": "black", "linewidth": 2.4, "zorder": 2}
            axis.plot(one.quantiles, SHARES, label=one.name, **style)
        axis.set(xlabel=f"{label} (unit of the activations)", ylabel="share of values ≤ x", ylim=(-0.02, 1.02))
        _finish(axis, heading if len(panels) > 1 else "", "lower right")
    _save(figure, path, title)


def plot_entropies(results: Mapping[str, Sequence[ContextEntropy]], path: str | Path, title: str) -> None:
    """Draw how many bits each context saves over coding without one, against the bits of a symbol.

    Args:
        results: entropies by source, of several quantizers.
        path: of the image; its folder is made if absent.
        title: of the whole.
    """
    from matplotlib.ticker import PercentFormatter

    figure, axes = _panels(len(results), sharey=True)
    for axis, (source, rows) in zip(axes, results.items(), strict=True):
        base = {row.quantizer: row.bits_per_element for row in rows if row.context == "none"}
        contexts = [c for c in dict.fromkeys(row.context for row in rows) if c != "none"]
        for number, context in enumerate(contexts):
            mine = sorted(
                (row for row in rows if row.context == context and base[row.quantizer] > 0), key=lambda row: row.levels
            )
            axis.plot(
                [(row.levels - 1).bit_length() for row in mine],
                [row.bits_per_element / base[row.quantizer] for row in mine],
                marker="osD^v"[number % 5],
                label=context,
            )
        axis.axhline(1, color="black", linewidth=1.2, linestyle="--", label="none (order 0)")
        axis.set(xlabel="bits of a symbol, n", ylabel="bits per element over order 0")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _finish(axis, source if len(results) > 1 else "", "best", "context")
    _save(figure, path, title)


def plot_spectrum(points: Sequence[SpectrumPoint], path: str | Path, title: str) -> None:
    """Draw accuracy against the share of frequencies kept, one line for each order of the dimensions.

    Args:
        points: of all orders and shares.
        path: of the image; its folder is made if absent.
        title: of the whole.
    """
    figure, (axis,) = _panels(1)
    for number, order in enumerate(dict.fromkeys(point.order for point in points)):
        line = sorted((point for point in points if point.order == order), key=lambda point: point.share)
        axis.plot(
            [100 * p.share for p in line],
            [100 * p.accuracy for p in line],
            marker="osD^vP"[number % 6],
            markersize=5,
            label=" → ".join(order[::-1]),
        )
    axis.axvline(12.5, color="black", linewidth=0.8, linestyle=":", label="rate of 4 bits\na coefficient")
    axis.set(
        xlabel="lowest frequencies kept (%)",
        ylabel="top-1 accuracy (%)",
        ylim=(0, 102),
        xlim=(0, 102),
    )
    _finish(axis, "", "lower right", "written fastest → slowest")
    _save(figure, path, title)


def _panels(count: int, **shared: bool) -> tuple[Any, list[Any]]:
    """Return a figure and its axes: one or two panels in a row, more in several rows."""
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    columns = min(count, 2)
    rows = ceil(count / 2)
    width = SIZE[0] if columns == 1 else 1.35 * SIZE[0]
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, SIZE[1] * rows), layout="constrained", squeeze=False, **shared
    )
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.remove()
    return figure, flat[:count]


def _finish(axis: Any, heading: str, place: str, legend: str | None = None) -> None:
    axis.set_title(heading, fontsize=10)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(loc=place, fontsize=8, title=legend, title_fontsize=8)


def _save(figure: Any, path: str | Path, title: str) -> None:
    import matplotlib.pyplot as plt

    figure.suptitle(title, fontsize=11)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
