"""Tables and figures of scripts/papers/beysens2023, from results that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.papers.beysens2023.report import savings_table, write_report
from scripts.papers.beysens2023.runs import ENTROPY, SPARSITY, Cut, Protocol, second_stage, third_stage
from scripts.papers.common.page import record

CUT = Cut("layer1", "layer1", "layer1")
WEIGHTS = (0.0, 1.0, 10.0)
PROTOCOL = Protocol(
    "made_up", "a network", None, "weights", "early.yaml", "late.yaml", (0, 1, 1), (CUT,),
    (("entropy", CUT, ENTROPY, WEIGHTS), ("sparsity", CUT, SPARSITY, WEIGHTS)),
)  # fmt: skip
CODECS = {"raw": 1.0, "CSR": 2.0, "Huffman": 0.5, "RANS": 0.5, "ContextRANS": 0.25}


def row(size: float, final: float, collapsed: bool = False, reached: bool = True) -> dict[str, Any]:
    """Return what `splitlearn exits` leaves of a run."""
    sizes = {name: share * size for name, share in CODECS.items()}
    points = [
        {
            "threshold": t,
            "accuracy": t * final,
            "exit_share": 1 - t,
            "bytes_per_image": {name: t * each for name, each in sizes.items()},
        }
        for t in (0.0, 0.5, 1.0)
    ]
    return {
        "accuracies": [final / 2, final], "float_accuracies": [final / 2, final], "collapsed": collapsed,
        "entropy_bits": 4.0, "bytes": sizes, "points": points, "calibration_errors": [0.1], "temperatures": [1.5],
        "calibrated_errors": [0.05], "cheapest": {"0.8": {n: points[-1] if reached else None for n in CODECS}},
    }  # fmt: skip


@pytest.fixture
def found() -> dict[str, dict[str, Any]]:
    sizes = {0.0: row(16384, 0.88), 1.0: row(8192, 0.86), 10.0: row(1024, 0.1, collapsed=True, reached=False)}
    runs = {third_stage(PROTOCOL, CUT, rate, w).name: sizes[w] for rate in (ENTROPY, SPARSITY) for w in WEIGHTS}
    return {second_stage(PROTOCOL, CUT).name: row(16384, 0.88), **runs}


def test_savings_are_those_of_the_best_weight(found: dict[str, dict[str, Any]]) -> None:
    table = savings_table(PROTOCOL, found, 0.8)
    assert table.splitlines()[-1] == "| sparsity | 16.00 | 8.00 | 4.00 (λ 1) | 75 % | 2.00 (λ 1) | 88 % |"


def test_what_is_not_reached_saves_nothing(found: dict[str, dict[str, Any]]) -> None:
    for each in found.values():
        each["cheapest"] = {"0.8": dict.fromkeys(CODECS)}
    cells = savings_table(PROTOCOL, found, 0.8).splitlines()[-1].split(" | ")
    assert cells[1:] == ["not reached", "not reached", "not reached", "–", "not reached", "– |"]


def test_the_runs_without_a_weight_are_one(found: dict[str, dict[str, Any]]) -> None:
    assert third_stage(PROTOCOL, CUT, SPARSITY, 0.0) == third_stage(PROTOCOL, CUT, ENTROPY, 0.0)


@pytest.mark.slow
def test_the_page_flags_what_collapsed_and_draws_all_figures(
    found: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no logs there
    facts = {"data": "images", **record()}
    write_report(PROTOCOL, found, 0.885, 0.8, tmp_path, facts)
    page = (tmp_path / "README.md").read_text()
    assert "| 10 | 1.00 | 2.00 | 0.50 | 0.50 | 0.25 | 4.00 | 5.0 | 10.0 (collapsed) |" in page
    assert "| 2 | 147.1 (140.6) | 1.7 (0.04) |" in page  # Table II, from the architecture
    drawn = {path.stem.partition("_")[0] for path in tmp_path.glob("*.png")}
    assert drawn == {f"figure{n}" for n in range(5, 12)}
