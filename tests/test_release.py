"""The wheel: built from a clean checkout alone, and complete enough for the quick start in an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import splitlearn

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
CODEC = """
import numpy as np
from splitlearn.codecs import ContextRANS
symbols = np.random.default_rng(0).integers(0, 4, (8, 16, 16)).astype(np.uint8)
payload = ContextRANS().encode(symbols, 4)
assert (ContextRANS().decode(payload, symbols.shape, 4) == symbols).all()
print(len(payload))
"""
SHIPPED = """
import torch
from splitlearn.models import from_pretrained
model = from_pretrained("resnet20-cifar10-layer3-bank")
print(len(model.decompress(model.compress(torch.rand(2, 3, 32, 32)))))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(UV is None, reason="uv is not installed"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout can be built and checked"),
]


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without the settings of the environment that runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(words, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, without anything else that lies about."""
    folder = tmp_path_factory.mktemp("release")
    run("git", "clone", "--quiet", ROOT, folder / "clone", cwd=folder)
    return folder / "clone"


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    """The wheel of the sdist."""
    assert UV is not None
    run(UV, "build", "--quiet", "--out-dir", clone.parent / "dist", cwd=clone)
    (found,) = (clone.parent / "dist").glob("*.whl")
    return found


def test_the_sdist_builds_the_same_wheel(clone: Path, wheel: Path) -> None:
    assert UV is not None
    run(UV, "build", "--quiet", "--wheel", "--out-dir", clone.parent / "direct", cwd=clone)
    (direct,) = (clone.parent / "direct").glob("*.whl")
    assert wheel.read_bytes() == direct.read_bytes()
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"splitlearn/shipped/{path.relative_to(clone)}" for path in (clone / "configs").rglob("*.yaml")}
    assert configs < names
    assert "splitlearn/shipped/checkpoints/resnet8_digits.safetensors" in names
    assert {name.split("/")[0] for name in names} == {"splitlearn", f"splitlearn-{splitlearn.__version__}.dist-info"}


def test_a_file_that_git_does_not_know_stops_the_build(clone: Path, wheel: Path) -> None:
    assert UV is not None
    odd = clone / "configs/mine.yaml"
    odd.touch()
    try:
        said = run(UV, "build", "--wheel", "--out-dir", clone.parent / "odd", cwd=clone)
    finally:
        odd.unlink()
    assert said.returncode == 2
    assert (
        "RuntimeError: configs/mine.yaml would ship, but git does not know it: commit it or move it away" in said.stderr
    )
    assert not list((clone.parent / "odd").glob("*.whl"))


def test_the_quick_start_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    assert UV is not None
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    install = (UV, "pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "constraints.txt", wheel)
    run(*install, cwd=tmp_path)
    command = python.with_name("splitlearn")
    assert run(command, "--version", cwd=tmp_path).stdout == f"splitlearn {splitlearn.__version__}\n"
    assert int(run(python, "-c", CODEC, cwd=tmp_path).stdout) > 8 * 16 * 16 / 4
    assert run(python, "-c", SHIPPED, cwd=tmp_path).stdout == "2\n"
    configs = (
        "--config",
        "configs/trainer.yaml",
        "--config",
        "configs/quickstart.yaml",
        "--trainer.accelerator",
        "cpu",
    )
    run(command, "fit", *configs, "--trainer.max_epochs", "1", cwd=tmp_path)
    said = run(command, "test", *configs, "--ckpt_path", "last", cwd=tmp_path).stdout
    assert "results: runs/quickstart/version_1/results.json" in said
    listed = run(UV, "pip", "list", "--python", python, cwd=tmp_path).stdout
    assert not {"onnx", "ray", "wandb", "pytest", "ultralytics"} & {line.split()[0] for line in listed.splitlines()}
