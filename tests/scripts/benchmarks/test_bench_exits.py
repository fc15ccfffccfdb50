"""The benchmarks of early exits leave their tables; how long anything takes is no matter here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(name: str, *options: object) -> None:
    """Run a script of the project."""
    words = [sys.executable, f"scripts/benchmarks/{name}", *map(str, options)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_entropy_agrees_in_all_forms_and_its_step_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    small = ("--values", 1 << 15, "--rounds", 2, "--dense-rounds", 1, "--step-rounds", 1, "--batch-size", 64)
    run("bench_entropy", *small, "--networks", "resnet20", "--out", out)
    record = json.loads(out.read_text())
    assert set(record["rate"]["forms"]) == {"compiled", "torch", "dense"}
    assert record["rate"]["bytes_kept_per_value"] < 2
    assert record["steps"]["resnet20"]["ratio"] > 0


@pytest.mark.slow
def test_exits_of_batches_are_those_of_images(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    run("bench_exits", "--config", "configs/beysens2023/digits.yaml", "--batches", 2, "--rounds", 1, "--out", out)
    shares = [row["exit_share"] for row in json.loads(out.read_text())["shares"].values()]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
