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
    """Draw empirical CDFs, one panel for each source; the first of each panel is drawn bold.

    Args:
        panels: distributions by the heading of their panel.
        path: of the image; its folder is made if absent.
        title: of the whole.
        label: of the x axis, where one coefficient's unit is that of the network's activations.
        between: shares of the values between which each panel has an x axis of its own, so that single outliers do not
            stretch it; None for one x axis with all values in all panels.
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
    """Return the ends of an x axis that shows this part of all distributions, and a margin."""
    low, high = (min(range(len(SHARES)), key=lambda i: abs(SHARES[i] - share)) for share in between)
    left, right = min(d.quantiles[low] for d in found), max(d.quantiles[high] for d in found)
    margin = 0.03 * (right - left) or 1
    return left - margin, right + margin


def plot_entropies(results: Mapping[str, Sequence[ContextEntropy]], path: str | Path, title: str) -> None:
    """Draw bits per element under each context, relative to coding without one, against the bits per symbol.

    Args:
        results: entropies by source, of several quantizers.
        path: of the image; its folder is made if absent.
        title: of the whole.
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
    """Draw accuracy against the share of frequencies kept, one line for each order of the dimensions.

    Args:
        points: of all orders and shares.
        path: of the image; its folder is made if absent.
        title: of the whole.
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
