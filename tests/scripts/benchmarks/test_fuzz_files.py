"""The fuzzer of files finds no fault in the package, and finds each kind of fault where there is one."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from scripts.benchmarks import fuzz_files
from scripts.benchmarks.file_kinds import KINDS


def trusts(load: Callable[[Path], Any], path: Path) -> Any:
    """Takes the weights of a damaged file."""
    model = load(path.parent / "honest.safetensors")
    model.load_state_dict(load_file(path), strict=False)
    return model


def holds_much(load: Callable[[Path], Any], path: Path) -> Any:
    """Holds 200 MB whatever the file, still when it has returned: some kernels count the peak of a moment too low."""
    model = load(path)
    model.held = np.ones(25_000_000)
    return model


def raises(load: Callable[[Path], Any], path: Path) -> Any:
    """Lets the error of another library through."""
    load_file(path)
    return load(path)


def imports(load: Callable[[Path], Any], path: Path) -> Any:
    """Imports something."""
    importlib.import_module("this")
    return load(path)


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        (trusts, "damage gave another model"),
        (raises, "raised SafetensorError"),
        (holds_much, "are allowed"),
        (imports, "it imported"),
    ],
)
def test_finds_faults(tmp_path: Path, way: Callable[..., Any], problem: str) -> None:
    sys.modules.pop("this", None)
    kind = KINDS["network"]
    path = kind.write(tmp_path)
    (tmp_path / "honest.safetensors").write_bytes(path.read_bytes())
    calls: list[Path] = []

    def load(path: Path) -> Any:
        calls.append(path)
        return kind.load(path) if len(calls) <= 3 else way(kind.load, path)  # the first loads measure an honest file

    found = fuzz_files.fuzz(replace(kind, load=load), 200, 1, tmp_path)
    assert found.violation is not None
    assert problem in found.violation["problem"]
    assert Path(found.violation["file"]).is_file()


@pytest.mark.slow
def test_finds_nothing_in_the_package(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    kinds = [word for kind in ("bottleneck", "bank", "network", "early exit") for word in ("--kind", kind)]
    assert fuzz_files.main([*kinds, "--files", "80", "--seed", "3", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["files"] == 80
    for row in record["kinds"].values():
        assert row["violation"] is None
        assert row["files"] == row["refused"] + row["equal"] + row["other"] == 20
        assert row["refused"] > 0
        assert row["memory"] < row["allowed"]


def test_equal_runs_have_equal_outcomes(tmp_path: Path) -> None:
    counts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found = fuzz_files.fuzz(KINDS["network"], 60, 5, tmp_path / name)
        counts.append((found.refused, found.equal, found.other))
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_finds_nothing_in_checkpoints(tmp_path: Path) -> None:
    words = ["--kind", "checkpoint", "--kind", "calibration", "--files", "120", "--out", str(tmp_path / "r.json")]
    assert fuzz_files.main(words) == 0
