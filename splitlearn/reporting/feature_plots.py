"""Plots of the analyses of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from splitlearn.analysis.distribution import SHARES, Distribution
from splitlearn.analysis.entropy import ContextEntropy
from splitlearn.analysis.spectrum import SpectrumPoint
from splitlearn.reporting.figures import MARKERS, figure_file


def plot_distributions(
    panels: Mapping[str, Sequence[Distribution]],
    path: str | Path,
    title: str,
    label: str = "coefficient",
    between: tuple[float, float] | None = None,
) -> None:
    """Plot empirical CDFs, one panel for each source; the first curve of each panel is bold.

    Args:
        panels: distributions by the heading of their panel.
        path: path of the image file; its folder is made if absent.
        title: title of the figure.
        label: label of the x axis; coefficients are in the unit of the network's activations.
        between: lowest and highest share of the values on the x axis, e.g. (0.01, 0.99), so that outliers do not
            stretch it; each panel then has its own x axis. None for one common x axis with all values.
    """
    with figure_file(path, len(panels), min(len(panels), 2), None, title, between is None, sharey=True) as (_, grid):
        for axes, (heading, found) in zip(grid, panels.items(), strict=True):
            for number, one in enumerate(found):
                style: dict[str, Any] = {"color": f"C{number - 1}", "linewidth": 1.2, "zorder": 3}
                if number == 0:
                    style = {"color": "black", "linewidth": 2.4, "zorder": 2}
                axes.plot(one.quantiles, SHARES, label=one.name, **style)
            axes.set(xlabel=f"{label} (unit of the activations)", ylabel="share of values ≤ x", ylim=(-0.02, 1.02))
            if between is not None:
                axes.set_xlim(*_limits(found, between))
            _finish(axes, heading if len(panels) > 1 else "", "lower right")


def _limits(found: Sequence[Distribution], between: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of an x axis that shows these shares of all distributions, with a margin."""
    low, high = (min(range(len(SHARES)), key=lambda i: abs(SHARES[i] - share)) for share in between)
    left, right = min(d.quantiles[low] for d in found), max(d.quantiles[high] for d in found)
    margin = 0.03 * (right - left) or 1
    return left - margin, right + margin


def plot_entropies(results: Mapping[str, Sequence[ContextEntropy]], path: str | Path, title: str) -> None:
    """Plot bits per element with each context, relative to coding without context, against the bits per symbol.

    Args:
        results: entropies for several quantizers, by the name of their source.
        path: path of the image file; its folder is made if absent.
        title: title of the figure.
    """
    from matplotlib.ticker import PercentFormatter

    with figure_file(path, len(results), min(len(results), 2), title=title, sharey=True) as (_, grid):
        for axes, (source, rows) in zip(grid, results.items(), strict=True):
            base = {row.quantizer: row.bits_per_element for row in rows if row.context == "none"}
            contexts = [c for c in dict.fromkeys(row.context for row in rows) if c != "none"]
            for marker, context in zip(MARKERS, contexts, strict=False):
                mine = sorted(
                    (row for row in rows if row.context == context and base[row.quantizer] > 0),
                    key=lambda row: row.levels,
                )
                bits = [(row.levels - 1).bit_length() for row in mine]
                ratios = [row.bits_per_element / base[row.quantizer] for row in mine]
                axes.plot(bits, ratios, marker=marker, label=context)
            axes.axhline(1, color="black", linewidth=1.2, linestyle="--", label="none (order 0)")
            axes.set(xlabel="bits per symbol, n", ylabel="bits per element over order 0")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            _finish(axes, source if len(results) > 1 else "", "best", "context")


def plot_spectrum(points: Sequence[SpectrumPoint], path: str | Path, title: str) -> None:
    """Plot accuracy against the share of frequencies kept, one line for each order of the dimensions.

    Args:
        points: points of all orders and shares.
        path: path of the image file; its folder is made if absent.
        title: title of the figure.
    """
    with figure_file(path, title=title) as (_, (axes,)):
        for marker, order in zip(MARKERS, dict.fromkeys(point.order for point in points), strict=False):
            line = sorted((point for point in points if point.order == order), key=lambda point: point.share)
            shares, accuracies = [100 * p.share for p in line], [100 * p.accuracy for p in line]
            axes.plot(shares, accuracies, marker=marker, markersize=5, label=" → ".join(order[::-1]))
        axes.axvline(12.5, color="black", linewidth=0.8, linestyle=":", label="rate of 4 bits\nper coefficient")
        axes.set(xlabel="lowest frequencies kept (%)", ylabel="top-1 accuracy (%)", ylim=(0, 102), xlim=(0, 102))
        _finish(axes, "", "lower right", "written fastest → slowest")


def _finish(axes: Any, heading: str, place: str, legend: str | None = None) -> None:
    axes.set_title(heading, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc=place, fontsize=8, title=legend, title_fontsize=8)
