"""Labels of logarithmic axes are plain numbers, are there, and do not overlap, whatever the range."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitlearn.reporting.log_ticks import plain_log_ticks


@pytest.mark.parametrize("ends", [(0.3, 0.9), (0.3, 0.31), (0.02, 9.0), (1e-4, 1e5), (90.0, 1100.0), (2000.0, 2500.0)])
def test_labels_do_not_overlap(ends: tuple[float, float]) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.plot(ends, (0, 1), "o")
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    canvas.draw()
    low, high = axes.get_xlim()
    labels = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
    labels += [t.label1 for t in axes.xaxis.get_minor_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
    places = sorted((box.x0, box.x1) for box in (label.get_window_extent() for label in labels))
    assert len(places) >= 2
    assert all(left[1] < right[0] for left, right in pairwise(places))
    assert not any("10^" in label.get_text() for label in labels)
