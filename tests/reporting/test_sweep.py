"""The tables and files of a sweep's frontiers."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from splitlearn.reporting import figures_table, frontier_table, write_report
from splitlearn.sweep import Axes, State, Trial, read_baseline

AXES = Axes("bytes", "accuracy")


def trial(number: int, at: str, rate: float, score: float) -> Trial:
    """Return a finished trial."""
    return Trial(number, {"at": at}, State.FINISHED, {"bytes": rate, "accuracy": score}, "", 1.0)


TRIALS = [trial(n, at, (n + 1) * scale, 0.5 + 0.1 * n) for n in range(4) for at, scale in (("early", 10), ("late", 1))]


def baseline(folder: Path, heading: str) -> Path:
    """Write points of twice the rate at both cuts."""
    path = folder / "baseline.csv"
    rows = [f"{t.values['at']},{2 * t.metrics['bytes']},{t.metrics['accuracy']}" for t in TRIALS]
    path.write_text("\n".join([f"{heading},bytes,accuracy", *rows]))
    return path


def test_each_cut_is_compared_with_its_own_points(tmp_path: Path) -> None:
    points = read_baseline(baseline(tmp_path, "at"), AXES, "at")
    report = write_report(TRIALS, AXES, tmp_path, {}, "at", [0.65, 0.95], points)
    for figures in report.figures.values():
        assert figures.bd_rate_percent == pytest.approx(-50)
    assert report.figures["early"].rate_at["0.95"] is None
    assert report.figures["late"].rate_at["0.65"] == pytest.approx((2 * 3) ** 0.5)  # interpolated in its logarithm
    told = json.loads((tmp_path / "pareto.json").read_text())
    assert told["curves"]["early"]["bd_rate_percent"] == report.figures["early"].bd_rate_percent


def test_without_their_own_points_all_are_compared_with_all(tmp_path: Path) -> None:
    points = read_baseline(baseline(tmp_path, "cut"), AXES, "at")
    assert list(points) == ["all"]
    report = write_report(TRIALS, AXES, tmp_path, {}, "at", [], points)
    assert report.figures["early"].bd_rate_percent == pytest.approx(400)


def test_the_table_tells_what_is_not_reached(tmp_path: Path) -> None:
    told = StringIO()
    Console(width=120, file=told).print(figures_table(write_report(TRIALS, AXES, tmp_path, {}, at=[0.65, 0.95]), AXES))
    shown = told.getvalue()
    assert "bytes at 0.65" in shown
    assert "not reached" in shown
    assert "BD-rate" not in shown


def test_the_plot_says_what_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    save = Figure.savefig

    def noted(figure: Figure, *where: Any, **how: Any) -> None:
        drawn.append(figure)
        save(figure, *where, **how)

    monkeypatch.setattr(Figure, "savefig", noted)
    write_report(TRIALS, AXES, tmp_path / "my_sweep", {}, "at", unsplit=0.85)
    write_report(TRIALS, AXES, tmp_path / "my_sweep", {})
    ((with_line,), (without,)) = (figure.axes for figure in drawn)
    assert with_line.get_title() == "my_sweep: 8 trials that have finished"
    legend = [text.get_text() for text in with_line.get_legend().get_texts()]
    assert legend == ["frontier of early", "frontier of late", "unsplit"]
    heights = [list(line.get_ydata()) for line in with_line.lines if line.get_label() == "unsplit"]
    assert heights == [[0.85, 0.85]]
    assert [text.get_text() for text in without.get_legend().get_texts()] == ["frontier"]
    assert (tmp_path / "my_sweep" / "pareto.png").stat().st_size > 1000


def test_test_figures_stand_beside_those_that_choose(tmp_path: Path) -> None:
    axes = Axes("val/bytes", "val/accuracy")

    def measured(number: int, size: float, score: float, more: dict[str, float]) -> Trial:
        return Trial(number, {}, State.FINISHED, {"val/bytes": size, "val/accuracy": score, **more}, "", 1.0)

    best_on_test = {"test/bytes": 1.0, "test/accuracy": 1.0}
    trials = [measured(0, 10, 0.5, {"test/bytes": 11.0, "test/accuracy": 0.4}), measured(1, 20, 0.4, best_on_test)]
    trials.append(measured(2, 30, 0.9, {}))
    frontier = axes.frontier(trials)
    assert [trial.number for trial in frontier] == [0, 2]
    told = StringIO()
    Console(width=150, file=told).print(frontier_table(frontier, axes))
    first, second = (line.split("│")[1:-1] for line in told.getvalue().splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in first] == ["0", "10", "0.5000", "11", "0.4"]
    assert [cell.strip() for cell in second] == ["2", "30", "0.9000", "–", "–"]
    report = write_report(trials, axes, tmp_path, {})
    assert [trial.number for trial in report.curves[0].frontier] == [0, 2]
    rows = [line.split(",") for line in (tmp_path / "frontier.csv").read_text().splitlines()]
    assert rows[0][-4:] == ["test/accuracy", "test/bytes", "val/accuracy", "val/bytes"]
    assert [row[-4:] for row in rows[1:]] == [["0.4", "11.0", "0.5", "10"], ["", "", "0.9", "30"]]
    assert axes.points_on_test_images(frontier) == [(11.0, 0.4)]
    assert Axes("test/bytes", "test/accuracy").points_on_test_images(frontier) == []
