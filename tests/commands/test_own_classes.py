"""Classes of the user's own, in the working directory, wherever the configs lie that name them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import SMALL, Run, run_in

NETWORK = """
from torch import Tensor, nn

class OwnNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.second = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images))
"""


def config(module: str) -> str:
    own = "{class_path: %s.OwnNetwork}" % module  # noqa: UP031 - braces
    known = "{class_path: splitlearn.models.resnet20, init_args: {weights: null}}"
    return SMALL.replace(known, own).replace("at: layer2", "at: first")


@pytest.mark.parametrize("name", ["here.yaml", "below/config.yaml", "linked/config.yaml"])
def test_a_config_anywhere_finds_classes_of_the_working_directory(run: Run, name: str) -> None:
    module = f"own_{Path(name).parent.name or 'here'}"  # a name of its own, since modules stay imported
    Path(f"{module}.py").write_text(NETWORK)
    Path("below").mkdir()
    Path("linked").symlink_to("below")
    Path(name).write_text(config(module))
    fitted = run("fit", "--config", name)
    assert fitted.status == 0, fitted.err
    words = ("--config", "runs/small/version_0/config.yaml")
    assert run("exits", *words).error.endswith("only an EarlyExitModel has exits")  # its classes were found
    assert run("test", *words, "--ckpt_path", "last").status == 0


def test_the_working_directory_is_searched_once_and_by_its_whole_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    run("--version")
    run("--version")
    assert sys.path == [str(tmp_path), "elsewhere"]
    assert os.path.isabs(sys.path[0])


def test_a_class_beside_its_config_is_told_how_to_be_found(run: Run) -> None:
    Path("project").mkdir()
    Path("project/own_beside.py").write_text(NETWORK)
    Path("project/config.yaml").write_text(config("own_beside"))
    outcome = run("fit", "--config", "project/config.yaml")
    assert outcome.status == 2
    assert outcome.error.endswith("it lies in project, not in the working directory: set PYTHONPATH=project")


@pytest.mark.slow
def test_processes_of_a_sweep_and_of_stages_find_them(tmp_path: Path) -> None:
    (tmp_path / "own_started.py").write_text(NETWORK)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/config.yaml").write_text(config("own_started"))
    (tmp_path / "below/space.yaml").write_text("model.rate_weight: {choice: [0.1, 0.2]}")
    words = ("--config", "below/config.yaml", "--trainer.accelerator", "cpu")
    swept = run_in(tmp_path, "sweep", *words, "--space", "below/space.yaml", "--trials", "1", "--out", "swept")
    assert swept.returncode == 0, swept.stderr
    ddp = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    fitted = run_in(tmp_path, "fit", *words, *ddp)
    assert fitted.returncode == 0, fitted.stderr
    staged = run_in(tmp_path, "stages", *words[2:], "--trainer.logger.name", "staged", "--stages", "below/config.yaml")
    assert staged.returncode == 0, staged.stderr
