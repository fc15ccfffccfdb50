"""Distributions of coefficients as plots, cells and records of docs/results/carra2023."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from splitlearn.analysis import Distribution
from splitlearn.analysis.distribution import SHARES
from splitlearn.files import whole_file

SHOWN = 0.002, 0.998  # beyond these shares single outliers would stretch the axis


def plot_cdfs(found: Mapping[str, Sequence[Distribution]], path: Path, title: str, label: str) -> None:
    """Draw empirical CDFs, one panel a network with an x axis of its own; the first of each is drawn bold.

    Args:
        found: distributions by the heading of their panel.
        path: of the picture.
        title: of the whole.
        label: of the x axis.
    """
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    size = (9.5, 4.2) if len(found) > 1 else (7, 4.5)
    figure, grid = plt.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False, sharey=True)
    low, high = (min(range(len(SHARES)), key=lambda i: abs(SHARES[i] - share)) for share in SHOWN)
    for axes, (name, several) in zip(grid.flat, found.items(), strict=True):
        for number, one in enumerate(several):
            style: dict[str, Any] = {"color": f"C{number - 1}", "linewidth": 1.4, "zorder": 3}
            if number == 0:
                style = {"color": "black", "linewidth": 2.6, "zorder": 2}
            axes.plot(one.quantiles, SHARES, label=one.name, **style)
        left, right = min(d.quantiles[low] for d in several), max(d.quantiles[high] for d in several)
        margin = 0.03 * (right - left) or 1
        axes.set(xlim=(left - margin, right + margin), ylim=(-0.02, 1.02), xlabel=f"{label} (unit of the activations)")
        axes.set_title(name, fontsize=10)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    grid.flat[0].set_ylabel("share of values ≤ x")
    figure.suptitle(title, fontsize=11)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def statistics(one: Distribution) -> list[str]:
    """Return share of zeros, mean, standard deviation and extremes as cells of a table."""
    return [f"{100 * one.zeros:.1f}", *(f"{value:.3f}" for value in (one.mean, one.std, one.minimum, one.maximum))]


def records(found: Mapping[str, Sequence[Distribution]]) -> dict[str, Any]:
    """Return distributions without their quantiles, which have a CSV file."""
    return {
        name: [{key: value for key, value in asdict(one).items() if key != "quantiles"} for one in several]
        for name, several in found.items()
    }
