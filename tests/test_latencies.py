"""Files of latencies: what is written is read; anything else is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitlearn.latencies import WARM_UP, Latency, LatencyError, LatencyProfile, differences, timed
from tests.runtime.latency_profiles import profile


def test_a_profile_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "latencies.json"
    profile().write(path)
    assert LatencyProfile.read(path) == profile()
    assert LatencyProfile.read(path).fingerprint == profile(7.0).fingerprint
    assert profile(names=("other",)).fingerprint != profile().fingerprint
    assert profile(names=()).fingerprint == ""


def test_figures_are_told() -> None:
    lines = "\n".join(profile().lines())
    assert "whole network: 40.000 ms (p95 80.000)" in lines
    assert "cut at layer2, rate 1: device 8.000 ms" in lines
    assert "941.0 bytes, score 0.9" in lines
    assert "JPEG 75: encode 1.000 ms" in lines
    assert profile().conditions == "torch, 1 thread, one image, 10 rounds, made up"


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(name)


def with_value(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def put(content: Any) -> None:
        *way, last = path
        for step in way:
            content = content[step]
        content[last] = value

    return put


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (with_value("other", "format"), "holds no latencies: write it with splitlearn profile --time"),
        (with_value(99, "format_version"), "has format 99, this splitlearn reads 1"),
        (without("modules"), "it has no 'modules'"),
        (with_value(None, "coders"), "contradicts itself"),
        (with_value("fast", "whole", "p50_ms"), "fast is no number"),
        (with_value(-1, "whole", "p50_ms"), "are none"),
        (with_value(float("inf"), "whole", "p95_ms"), "is no number"),
        (with_value(True, "whole", "p95_ms"), "True is no number"),
        (with_value(90.0, "whole", "p50_ms"), "latencies of 90.0 and 80.0 ms are none"),
        (with_value("short", "coders", 0, "model"), "not 64 hexadecimal digits"),
        (with_value(-1, "coders", 0, "rate"), "-1 is no number from 0 on"),
        (with_value(-1, "coders", 0, "bytes_per_image"), "-1 bytes are none"),
        (with_value(0, "threads"), "0 is no number from 1 on"),
        (with_value([3, "x", 3], "input_shape"), "x is no number from 1 on"),
        (with_value([], "machine"), "contradicts itself"),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], None], sentence: str) -> None:
    path = tmp_path / "latencies.json"
    profile().write(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(LatencyError, match=sentence):
        LatencyProfile.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latencies.json"
    path.write_bytes(content)
    with pytest.raises(LatencyError, match=str(path)):
        LatencyProfile.read(path)
    with pytest.raises(FileNotFoundError, match="splitlearn profile --time"):
        LatencyProfile.read(tmp_path / "absent.json")


def test_percentiles() -> None:
    assert Latency.of([float(n) for n in range(101)]) == Latency(50.0, 95.0)
    assert Latency.of([3.0, 3.0]) == Latency(3.0, 3.0)
    assert Latency.of([-1.0, -2.0]) == Latency(0.0, 0.0)
    assert differences([3.0, 5.0], [1.0, 1.0]) == [2.0, 4.0]


def test_stages_take_turns_and_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.latencies.PAUSE_S", 0.0)
    calls: list[tuple[str, int]] = []
    found = timed({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 3)
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3}
    assert calls == [(name, n) for n in range(-WARM_UP, 3) for name in "ab"]
