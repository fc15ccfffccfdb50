"""Searches are compared by what they spend and find, and their sweeps run on shipped configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.benchmarks import bench_searches
from scripts.benchmarks.bench_searches import RATE, SCORE, Search, rows
from splitlearn.sweep import Trial
from splitlearn.sweep.trial import State


def trial(number: int, rate: float, score: float, stopped_after: int | None = None) -> Trial:
    state = State.FINISHED if stopped_after is None else State.STOPPED
    metrics = {RATE: rate, SCORE: score} if stopped_after is None else {}
    return Trial(number, {}, state, metrics, "", 1.0, stopped_after=stopped_after)


def test_what_is_spent_and_found_is_relative_to_the_random_search(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [trial(0, 1.0, 0.8), trial(1, 2.0, 0.9), trial(2, 3.0, 0.5), trial(3, 4.0, 0.4)]
    asked = {}

    def run(self: Search, way: str, cut: str, seed: int, trials: int) -> list[Trial]:
        asked[way] = trials
        if way == "halving":
            return [whole[0], trial(1, 0, 0, stopped_after=2), trial(2, 0, 0, stopped_after=1), trial(3, 0, 0, 1)]
        return whole[:trials]

    monkeypatch.setattr(Search, "run", run)
    found = Search(Path(), Path(), trials=4, epochs=8, share=1.0, settings=()).compared("layer3", 0)
    assert asked == {"random": 4, "halving": 4, "Sobol": 2, "TPE": 2}  # 12 epochs pay for one and a half
    assert found["random"] == {"trials": 4, "finished": 4, "spent": 1.0, "found": 1.0}
    assert found["halving"]["spent"] == pytest.approx(12 / 32)
    assert found["halving"]["found"] == pytest.approx(3 * 0.4 / (1 * 0.4 + 2 * 0.5))  # reference point (4.0, 0.4)
    assert found["TPE"]["found"] == pytest.approx(1.0)
    table = list(rows({"layer3": {"0": found}}))
    assert table[1] == ["layer3", "halving", "1 of 4", "0.857", "0.857", "0.375", "0.375"]


@pytest.mark.slow
def test_searches_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(10):
            (tmp_path / part / str(label)).mkdir(parents=True)
            for number in range(8):
                pixels = noise.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / str(label) / f"{number}.png")
    words = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page")]
    words += ["--cuts", "layer3", "--seeds", "1", "--trials", "4", "--share", "1.0"]
    monkeypatch.setattr(bench_searches, "WAYS", {way: bench_searches.WAYS[way] for way in ("random", "halving")})
    monkeypatch.setattr("sys.argv", ["bench_searches", *words, "--data.val_size", "20", "--data.batch_size", "20"])
    bench_searches.main()
    found = json.loads((tmp_path / "page/results.json").read_text())["cuts"]["layer3"]["0"]
    assert found["halving"]["spent"] < found["random"]["spent"] == 1
    page = (tmp_path / "page/README.md").read_text()
    assert "| layer3 | halving | 1 of 4 |" in page
    assert str(tmp_path) not in page
