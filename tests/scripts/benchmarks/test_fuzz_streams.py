"""The fuzzer of streams finds no fault in the package, and finds each kind of fault where there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import fuzz_streams
from splitlearn.codecs import CodecError, StreamReceiver
from splitlearn.codecs.stream import LateFrameError

SMALL = "4 levels"


@pytest.mark.parametrize("name", fuzz_streams.STREAMS)
def test_finds_nothing(name: str) -> None:
    tally = fuzz_streams.fuzz(name, 400, 0)
    assert tally.violation is None
    assert tally.count() >= 400
    for outcome in ("refused", "missing", "late", "exact"):
        assert tally.count(outcome) > 2


def test_equal_seeds_draw_equal_payloads() -> None:
    assert fuzz_streams.fuzz(SMALL, 100, 3).outcomes == fuzz_streams.fuzz(SMALL, 100, 3).outcomes


def lets_late_frames_pass(honest: Callable[..., Any], receiver: StreamReceiver, payload: bytes) -> Any:
    try:
        return honest(receiver, payload)
    except LateFrameError:
        receiver.state = None
        return honest(receiver, payload)


def forgets(honest: Callable[..., Any], receiver: StreamReceiver, payload: bytes) -> Any:
    try:
        return honest(receiver, payload)
    except CodecError:
        receiver.state = None
        raise


def changes(honest: Callable[..., Any], receiver: StreamReceiver, payload: bytes) -> Any:
    found = honest(receiver, payload)
    found[0][0].flat[0] ^= 1
    return found


def fails(honest: Callable[..., Any], receiver: StreamReceiver, payload: bytes) -> Any:
    raise IndexError("some")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (lets_late_frames_pass, "an honest frame is (exact|missing), and must be late"),
        (forgets, "is taken, or remembered|must be late"),
        (changes, "an honest frame is wrong, and must be exact"),
        (fails, r"raised IndexError\('some'\)"),
    ],
)
def test_finds_faults(fault: Callable[..., Any], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = StreamReceiver.unpack
    monkeypatch.setattr(StreamReceiver, "unpack", lambda receiver, payload: fault(honest, receiver, payload))
    found = fuzz_streams.fuzz(SMALL, 2000, 0).violation
    assert found is not None
    assert re.search(problem, found["problem"])
    assert found["payload"]


@pytest.mark.slow
def test_leaves_counts(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert fuzz_streams.main(["--stream", SMALL, "--payloads", "300", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["payloads"] >= 300
    assert record["streams"][SMALL]["violation"] is None


def test_an_unknown_stream_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fuzz_streams.main(["--stream", "nonsense"])
    assert "4 levels" in capsys.readouterr().err
