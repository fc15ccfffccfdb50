"""The training benchmark leaves its table; how long a step takes is no matter here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.benchmarks.bench_training import check_agreement

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "bench_training"
SIZE = ["--model", "resnet8", "--batch-size", "16", "--rounds", "2"]
BY_HAND = "(b) requires_grad, eval"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory on a CPU is read from Linux's /proc")
def test_leaves_times_and_memory_of_each_variant(tmp_path: Path) -> None:
    out = tmp_path / "run" / "results.json"
    options = [*SIZE, "--cuts", "layer2", "--variants", BY_HAND, "--out", str(out)]
    subprocess.run([sys.executable, SCRIPT, *options], check=True, capture_output=True)
    record = json.loads(out.read_text())
    assert {"date", "command", "machine", "versions", "load_average"} <= record.keys()
    assert record["settings"]["seed"] == 0
    rows = record["cuts"]["layer2"]
    assert {"ours", BY_HAND} == {name for name in rows if not name.startswith("head alone")}
    assert sum(name.startswith("head alone") for name in rows) == 5
    assert rows["ours"]["ratio_to_ours"] == 1
    for row in rows.values():
        assert len(row["ms"]) == 2
        assert row["best_ms"] == min(row["ms"]) > 0
    assert all(rows[name]["peak_mib"] > 0 for name in ("ours", BY_HAND))
    assert out.with_suffix(".png").stat().st_size > 0


def test_refuses_to_compare_variants_that_do_different_jobs() -> None:
    batches = [(torch.zeros(1), torch.zeros(1))] * 2
    check_agreement({"ours": lambda batch: torch.tensor(1.0), BY_HAND: lambda batch: torch.tensor(1.0001)}, batches)
    with pytest.raises(RuntimeError, match="same job"):
        check_agreement({"ours": lambda batch: torch.tensor(1.0), BY_HAND: lambda batch: torch.tensor(1.1)}, batches)
