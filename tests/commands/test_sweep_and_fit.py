"""A trial of a sweep and a fit with its config: the same weights, bit for bit, and the same metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.commands.conftest import Run
from tests.commands.test_sweep_command import CONFIG, ROOT, rows_of

SPACE = "model.model.quantizer.step: {uniform: [0.5, 2]}\nmodel.rate_weight: {log_uniform: [0.03, 1]}\n"
QUICK = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--data.val_size", "150"]
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
def test_a_trial_is_a_fit_with_its_config(tmp_path: Path, run: Run) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    out = tmp_path / "sweep"
    words = ["--space", str(tmp_path / "space.yaml"), "--out", str(out), "--cache_dir", str(tmp_path / "features")]
    outcome = run("sweep", *CONFIG, *QUICK, *ALL, *words, "--trials", "3", "--seed", "5", "--views", "2")
    assert outcome.status == 0, outcome.error
    (row,) = [row for row in rows_of(out) if row["trial"] == "2"]
    config = str(out / "trials/002/config.yaml")
    place = ["--trainer.logger.save_dir", str(tmp_path / "runs"), "--trainer.logger.name", "again"]
    fitted = run("fit", "--config", config, *place)
    assert fitted.status == 0, fitted.err
    folder = tmp_path / "runs/again/version_0"
    mine, theirs = weights_of(folder / "checkpoints/last.ckpt"), weights_of(out / "trials/002/trained.ckpt")
    assert theirs
    for name, tensor in theirs.items():
        assert torch.equal(mine[name], tensor), name
    for name in ("val/estimated_bits", "val/task_loss"):
        assert last_of(folder / "metrics.csv", name) == float(row[name])
    assert len(list((tmp_path / "features").iterdir())) == 1  # the fit uses the sweep's
