"""The benchmark of distillation leaves its table; how long a step takes is no matter here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "bench_distillation"


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--backbone", "mobilenet_v2", "--masks", "--hnd"]])
def test_leaves_the_time_of_each_step(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "results.json"
    size = ["--backbone", "resnet18", "--side", "64", "--rounds", "1", *options, "--out", str(out)]
    subprocess.run([sys.executable, SCRIPT, *size], check=True, capture_output=True)
    record = json.loads(out.read_text())
    assert record["settings"]["channels"] == 3
    assert record["ms"].keys() == {"distillation", "to the losses", "end to end"}
    assert all(len(times) == 1 for times in record["ms"].values())
