"""Checkpoints appear whole or not at all, wherever they are written to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splitlearn.data import Digits
from splitlearn.models import resnet8
from splitlearn.tasks import DistillationTask, LastCheckpoint, WholeFileIO
from tests.tasks.conftest import MakeTrainer


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    plugin, path = WholeFileIO(), tmp_path / "new" / "last.ckpt"
    plugin.save_checkpoint({"epoch": 3, "state": torch.arange(3)}, path)
    loaded = plugin.load_checkpoint(path)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state"], torch.arange(3))
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    plugin, path = WholeFileIO(), tmp_path / "last.ckpt"
    plugin.save_checkpoint({"epoch": 3}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        plugin.save_checkpoint({"epoch": 4, "bad": (n for n in range(3))}, path)
    assert plugin.load_checkpoint(path)["epoch"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_addresses_go_to_lightning() -> None:
    fsspec = pytest.importorskip("fsspec")
    address = "memory://runs/last.ckpt"
    WholeFileIO().save_checkpoint({"epoch": 5}, address)
    assert WholeFileIO().load_checkpoint(address)["epoch"] == 5
    fsspec.filesystem("memory").rm("/runs", recursive=True)
    assert not Path("memory:").exists()


def test_the_newest_state_is_kept_after_epochs_without_validation(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    kept = LastCheckpoint()
    kept.dirpath = str(tmp_path)
    task = DistillationTask(resnet8(), resnet8(), [("layer1", "layer1")], ["layer1"])
    trainer = make_trainer(
        callbacks=[kept], enable_checkpointing=True, check_val_every_n_epoch=2, max_epochs=3, limit_train_batches=1
    )
    trainer.fit(task, Digits(batch_size=4))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 2
