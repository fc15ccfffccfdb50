"""A trial of a sweep and a fit with its config: the same weights, bit for bit, and the same metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.commands.conftest import Run
from tests.config.test_sweep_group import ROOT, in_a_group, points_of, trial_in

ALL = ["--trainer.callbacks+=splitlearn.tasks.ChannelsLast", "--trainer.callbacks+=splitlearn.tasks.FoldedNorms"]


def weights_of(file: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, weights_only=True)["state_dict"]
    return {name: entry for name, entry in state.items() if isinstance(entry, Tensor)}


def last_of(metrics: Path, name: str) -> float:
    with metrics.open() as file:
        return float([row[name] for row in csv.DictReader(file) if row.get(name)][-1])


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_trial_is_a_fit_with_its_config(tmp_path: Path, run: Run) -> None:
    features = tmp_path / "features"
    trial = replace(trial_in(tmp_path, features, *ALL), views=2)
    metrics = in_a_group(tmp_path, trial, points_of(0, 1)).trials()[1].metrics
    place = ["--trainer.logger.save_dir", str(tmp_path / "runs"), "--trainer.logger.name", "again"]
    fitted = run("fit", "--config", str(trial.folder(1) / "config.yaml"), *place)
    assert fitted.status == 0, fitted.err
    run_folder = tmp_path / "runs/again/version_0"
    mine, theirs = weights_of(run_folder / "checkpoints/last.ckpt"), weights_of(trial.folder(1) / "trained.ckpt")
    assert theirs
    for name, tensor in theirs.items():
        assert torch.equal(mine[name], tensor), name
    for name in ("val/estimated_bits", "val/task_loss"):
        assert last_of(run_folder / "metrics.csv", name) == metrics[name]
    assert len([each for each in features.iterdir() if each.is_dir()]) == 1  # the fit uses the sweep's
