"""Figures: saved whole or not at all, axes row by row, one style for each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitlearn.reporting.figures import DPI, MARKERS, figure_file, line_style


def test_a_figure_is_saved_with_as_many_axes_as_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "new" / "figure.png"
    with figure_file(path, 3, columns=2, size=(4, 3), title="three", sharex=True) as (figure, axes):
        axes[0].plot([0, 1], [0, 1], **line_style(0))
        assert len(axes) == len(figure.axes) == 3
    with Image.open(path) as image:
        assert image.size == (4 * DPI, 3 * DPI)
    assert [each.name for each in path.parent.iterdir()] == ["figure.png"]


def test_nothing_is_saved_if_drawing_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), figure_file(tmp_path / "figure.png"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_lines_differ() -> None:
    styles = [tuple(line_style(number).items()) for number in range(4 * len(MARKERS))]
    assert len(set(styles[:20])) == 20
