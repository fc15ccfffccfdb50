"""Checkpoints that cannot be used say why; the command line's own come back whole (see tests/commands)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from splitlearn.codecs import RunLength
from splitlearn.config.loading import load_task
from splitlearn.data import Digits
from splitlearn.models import InputModel
from splitlearn.tasks import CheckpointError, ClassificationTask
from splitlearn.tasks.loading import load_weights_into, read_checkpoint
from tests.networks import datta, digits, network
from tests.tasks.conftest import MakeTrainer


@pytest.fixture
def written(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> Path:
    """A checkpoint that Python code, not the command line, has written."""
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    trainer = make_trainer(enable_checkpointing=True, callbacks=[checkpoint], limit_train_batches=1)
    trainer.fit(ClassificationTask(datta(), 10), data)
    return tmp_path / "last.ckpt"


def test_weights_come_back(written: Path) -> None:
    task = ClassificationTask(datta(seed=1), 10)
    content = read_checkpoint(written)
    load_weights_into(task, content, written)
    original = ClassificationTask(datta(), 10)
    original.load_state_dict(content["state_dict"])
    assert torch.equal(task.eval()(digits(2)), original.eval()(digits(2)))
    assert not torch.equal(task(digits(2)), ClassificationTask(datta(seed=1), 10).eval()(digits(2)))


def test_weights_of_the_first_version_come_back(written: Path) -> None:
    """There, bottlenecks, quantizers and tables were parts of the model itself."""
    content = read_checkpoint(written)
    expected = ClassificationTask(datta(seed=1), 10)
    load_weights_into(expected, content, written)
    state = {name.replace("model.coder.", "model."): value for name, value in content["state_dict"].items()}
    assert state.keys() != content["state_dict"].keys()
    task = ClassificationTask(datta(seed=1), 10)
    load_weights_into(task, {**content, "state_dict": state}, written)
    assert all(map(torch.equal, task.parameters(), expected.parameters()))


def test_a_checkpoint_without_config_is_told(written: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match="holds no config, as checkpoints of splitlearn fit do: give the config of its training, --config",
    ):
        load_task(written)


@pytest.mark.parametrize(
    ("task", "difference"),
    [
        (lambda: ClassificationTask(InputModel(network()), 10), r"entries differ, first model\."),
        (lambda: ClassificationTask(datta(), 10, rate_loss=None), None),
        (lambda: ClassificationTask(datta(RunLength()), 10), None),
    ],
)
def test_another_architecture_is_refused(written: Path, task: object, difference: str | None) -> None:
    assert callable(task)
    if difference is None:
        load_weights_into(task(), read_checkpoint(written), written)
        return
    with pytest.raises(CheckpointError, match=rf"last\.ckpt belongs to another architecture: \d+ {difference}"):
        load_weights_into(task(), read_checkpoint(written), written)


def test_other_shapes_are_refused_and_nothing_is_loaded(written: Path) -> None:
    content = read_checkpoint(written)
    content["state_dict"]["model.coder.bottlenecks.0.encoder.1.weight"] = torch.zeros(4, 32, 1, 1)
    task = ClassificationTask(datta(seed=1), 10)
    before = {name: p.clone() for name, p in task.named_parameters()}
    with pytest.raises(CheckpointError, match=r"1 entries differ, first model\.coder\.bottlenecks\.0\.enc"):
        load_weights_into(task, content, written)
    assert all(torch.equal(p, before[name]) for name, p in task.named_parameters())


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.ckpt; splitlearn fit leaves last\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_checkpoint_is_told(written: Path, keep: float) -> None:
    written.write_bytes(written.read_bytes()[: int(keep * written.stat().st_size)])
    with pytest.raises(CheckpointError, match="damaged or no checkpoint: use an earlier one"):
        read_checkpoint(written)


@pytest.mark.parametrize("content", [b"hello\n", b"c\n.", b"\x80\x02", b"(", b"I1\n.", b"PK\x03\x04junk", b"\0" * 64])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [_Evil(), nn.Linear(1, 1)])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": content}, "x.ckpt")
    with pytest.raises(CheckpointError):
        read_checkpoint("x.ckpt")
    assert not Path("executed").exists()


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_weights_into(ClassificationTask(datta(), 10), read_checkpoint(tmp_path / "x.ckpt"), tmp_path / "x.ckpt")
