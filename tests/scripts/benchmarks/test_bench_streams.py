"""Coding beside the frame before: what scripts/benchmarks/bench_streams compares, and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.benchmarks.bench_streams import compared, encoded, first_encode_seconds, page
from splitlearn.codecs import ContextRANS, Deflate

LEVELS = 4


def sequence(frames: int) -> list[NDArray[np.uint8]]:
    """Frames in which one symbol in fifty is drawn anew."""
    draws = np.random.default_rng(0)
    found = [draws.integers(0, LEVELS, (8, 16, 16)).astype(np.uint8)]
    for _ in range(frames - 1):
        drawn = draws.integers(0, LEVELS, found[-1].shape).astype(np.uint8)
        found.append(np.where(draws.random(drawn.shape) < 0.02, drawn, found[-1]))
    return found


def test_frames_beside_the_one_before_are_smaller_and_all_ways_are_timed(tmp_path: Path) -> None:
    symbols = sequence(6)
    pairs = list(zip(symbols[1:], symbols, strict=False))
    static = ContextRANS().fitted_to_sequences([symbols[:3]], LEVELS)
    rows = [compared(codec, LEVELS, pairs) for codec in (ContextRANS(), static)]
    assert [row["tables"] for row in rows] == ["own", "static"]
    for row in rows:
        assert row["bytes_per_frame"]["beside"] < 0.3 * row["bytes_per_frame"]["alone"]
        assert all(ms > 0 for ms in row["best_ms"].values())
        assert row["speed_beside_by_alone"]["encode"] == pytest.approx(
            row["best_ms"]["encode alone"] / row["best_ms"]["encode beside"]
        )
    facts = {"shape": (8, 16, 16), "rows": rows, "rounds": 4, "versions": {"numpy": "2"}, "command": "c", "date": "d"}
    first = {"with_scipy": 0.5, "without_scipy": 0.25}
    told = page({**facts, "processor": "p", "machine": "m", "load_average": 0.0, "first_encode_s": first})
    assert "Symbols of YOLOv8n at `model.4`, 8×16×16," in told
    assert told.count("| own |") == told.count("| static |") == 1
    assert "its kernels in the cache: 0.25 s on a device; 0.50 s where SciPy" in told


def test_a_codec_without_reference_is_refused() -> None:
    first, second = sequence(2)
    with pytest.raises(ValueError, match="reference"):
        encoded(Deflate(), LEVELS, [(second, first)])


@pytest.mark.slow
def test_the_first_encode_of_a_process_is_timed(tmp_path: Path) -> None:
    assert 0 < first_encode_seconds(sequence(1)[0], LEVELS, tmp_path, ["scipy"]) < 60
