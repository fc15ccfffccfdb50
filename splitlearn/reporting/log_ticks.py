"""Tick labels of logarithmic axes: plain numbers that do not overlap."""

from __future__ import annotations

from math import log10
from typing import Any


def plain_log_ticks(axis: Any) -> None:
    """Set tick labels of a logarithmic axis to plain numbers that do not overlap; call it after everything is drawn.

    Within a decade, they are round numbers at equal distances; beyond, 1, 2 and 5 times powers of ten, or the powers.

    Args:
        axis: `axes.xaxis` or `axes.yaxis` of matplotlib.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = log10(high / low) if low > 0 else 1.0
    within = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))
    axis.set_major_locator(within if decades < 0.9 else LogLocator(subs=(1, 2, 5) if decades < 3.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
