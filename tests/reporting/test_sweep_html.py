"""The page of a sweep: what it says, that it needs no network, and that nothing in a sweep becomes code."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from splitlearn.reporting import SweepResults, sweep_html
from splitlearn.reporting.sweep_figures import frontier_figure, parallel_figure, progress_figure, short_names
from splitlearn.sweep import Axes, State, Trial, importances

pytest.importorskip("plotly", reason="plotly is not installed")

AXES = Axes("val/bits_per_pixel", "val/accuracy")


def trial(number: int, **values: Any) -> Trial:
    """Return a finished trial whose rate and score follow from its channels alone."""
    channels = float(values.get("model.channels", 1))
    metrics = {"val/bits_per_pixel": channels / 10, "val/accuracy": 1 - 1 / channels, "bottleneck/encoder_macs": 7e5}
    return Trial(number, values, State.FINISHED, metrics, "", 60.0, 1e9 + 3600 * number)


def sweep(name: str = "ours", folder: Path | None = None) -> SweepResults:
    found = [trial(n, **{"model.channels": 2 + n % 8, "model.quantizer": "a.MinMax", "lr": 0.1 * n}) for n in range(16)]
    found += [trial(n, **{"model.channels": 30 + n, "model.quantizer": "a.Step", "model.step": 0.5}) for n in (16, 17)]
    failed = Trial(18, found[0].values, State.FAILED, {}, "it broke", 1.0, 1e9)
    return SweepResults(name, [*found, failed], folder)


def written(tmp_path: Path, *sweeps: SweepResults) -> str:
    sweep_html(sweeps, AXES, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def told(page: str) -> Any:
    found = re.search(r"^const trials = (.*);$", page, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def test_a_trial_is_shown_with_setting_size_score_macs_and_config(tmp_path: Path) -> None:
    config = tmp_path / "trials/003/config.yaml"
    config.parent.mkdir(parents=True)
    config.touch()
    ((*trials,),) = told(written(tmp_path, sweep(folder=tmp_path)))
    shown = trials[3]
    assert shown["title"] == "ours, trial 3"
    assert ["channels", "5"] in shown["setting"]
    assert shown["measured"][:3] == [
        ["val/bits_per_pixel", "0.5"],
        ["val/accuracy", "0.8"],
        ["bottleneck/encoder_macs", "700,000"],
    ]
    assert [each["config"] for each in trials if each["config"]] == [str(config)]


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page = written(tmp_path, sweep(), sweep("paper"))
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "://" not in own
    assert "default-src 'none'" in own
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", own)
    assert "Plotly" in page
    assert "<!--" not in own.replace("<!DOCTYPE", "")


def test_names_and_values_never_become_code(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    values = {evil: evil, "model.channels": 3}
    found = [trial(number, **{**values, "model.channels": 3 + number}) for number in range(5)]
    page = written(tmp_path, SweepResults(evil, found))
    assert "<script>alert" not in page
    assert told(page)[0][0]["setting"][0] == [evil, evil]


def test_frontier_points_name_their_trials() -> None:
    figure = frontier_figure([sweep(), sweep("paper")], AXES)
    names = [trace.name for trace in figure.data]
    assert names == ["ours: other trials", "ours: frontier", "paper: other trials", "paper: frontier"]
    frontier = figure.data[3]
    assert list(frontier.x) == sorted(frontier.x)
    numbers = {number: n for number, n in ((t.number, t.metrics["val/bits_per_pixel"]) for t in sweep().finished)}
    assert [numbers[number] for _, number in frontier.customdata] == list(frontier.x)
    assert {index for index, _ in frontier.customdata} == {1}


def test_parallel_coordinates_have_a_place_for_what_does_not_exist() -> None:
    (lines,) = parallel_figure(sweep(), AXES).data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert list(axes) == ["channels", "quantizer", "lr", "step", "val/bits per pixel", "val/accuracy"]
    assert list(axes["quantizer"].ticktext) == ["Step", "MinMax"]
    assert axes["channels"].values[0] == pytest.approx(math.log10(2))  # over a decade and more
    assert axes["lr"].ticktext[0] == "none"
    assert list(axes["lr"].values[-2:]) == [axes["lr"].tickvals[0]] * 2
    assert min(axes["lr"].values[:-2]) > axes["lr"].tickvals[0]


def test_importance_finds_what_matters() -> None:
    found = importances(sweep().trials, "val/accuracy")
    assert next(iter(found)) == "model.channels"
    assert found["model.channels"] > 0.5
    assert sum(found.values()) == pytest.approx(1)
    assert importances(sweep().trials[:3], "val/accuracy") == {}
    same = [trial(number, **{"model.channels": 3, "lr": 0.1 * number}) for number in range(8)]
    assert importances(same, "val/accuracy") == {}
    assert importances(sweep().trials, "val/none") == {}


def test_progress_never_falls() -> None:
    (line,) = progress_figure([sweep()], AXES).data
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == 1
    assert list(line.x) == pytest.approx([number + 1 / 60 for number in range(18)])  # hours


def test_sweeps_of_few_trials_have_a_page_too(tmp_path: Path) -> None:
    waiting = Trial(0, {"lr": 0.1}, State.WAITING, {}, "", math.nan)
    page = written(tmp_path, SweepResults("begun", [waiting]), SweepResults("one", [trial(0, **{"model.channels": 3})]))
    assert "No trial of begun has finished." in page
    assert "nothing can be told" in page


def test_sweeps_that_measured_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ours did not measure val/miou: name metrics that all sweeps have"):
        sweep_html([sweep()], Axes("val/bits_per_pixel", "val/miou"), tmp_path / "page.html")
    with pytest.raises(ValueError, match="one sweep or more"):
        sweep_html([], AXES, tmp_path / "page.html")


def test_short_names_tell_paths_apart() -> None:
    assert short_names(["a.b.step", "a.c.step", "lr"]) == {"a.b.step": "b.step", "a.c.step": "c.step", "lr": "lr"}
    assert short_names(["step", "a.step"]) == {"step": "step", "a.step": "a.step"}
