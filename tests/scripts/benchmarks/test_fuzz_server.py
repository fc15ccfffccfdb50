"""The fuzzer of servers finds no fault in ours, and tells one that loses answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import fuzz_server


@pytest.mark.slow
def test_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    assert fuzz_server.main(["--frames", "3000", "--out", str(out)]) == 0, capsys.readouterr().out
    told = json.loads(out.read_text())
    assert set(told["outcomes"]) == {"right"}
    assert told["violations"] == []


def test_violations_are_an_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"outcomes": {"wrong": 1}, "early_mib": 1, "peak_mib": 1, "violations": ["1 wrong"]}
    monkeypatch.setattr(fuzz_server, "fuzz", lambda frames, seed: found)
    assert fuzz_server.main(["--out", str(tmp_path / "results.json")]) == 1
