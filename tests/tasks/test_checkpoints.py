"""Checkpoints appear whole or not at all, wherever they are written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

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


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_checkpoint_names_no_files_to_be_removed(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def fit(epochs: int, resumed: Path | None = None) -> list[ModelCheckpoint]:
        last, best = LastCheckpoint(), ModelCheckpoint(tmp_path / "run", monitor="val/distillation_loss")
        last.dirpath = str(tmp_path / "run")
        task = DistillationTask(resnet8(), resnet8(), [("layer1", "layer1")], ["layer1"])
        trainer = make_trainer(
            callbacks=[last, best], enable_checkpointing=True, max_epochs=epochs, limit_train_batches=1
        )
        trainer.fit(task, Digits(batch_size=4), ckpt_path=resumed)
        return [last, best]

    fit(1)
    forged, first, other = tmp_path / "run" / "last.ckpt", tmp_path / "run" / "epoch=0-step=1.ckpt", tmp_path / "other"
    assert first.is_file()
    content: dict[str, Any] = torch.load(forged, weights_only=True)
    names = [f"local://{other}", f"{tmp_path}/run/../other/a.ckpt", f"{tmp_path}/run/folder.ckpt", "memory://a.ckpt"]
    for name in names:
        (tmp_path / "run" / "folder.ckpt").mkdir(exist_ok=True)
        other.mkdir(exist_ok=True)
        (other / "a.ckpt").touch()
        for state in content["callbacks"].values():
            if "best_model_path" in state:
                state |= {key: name for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
                state["best_k_models"] = {name: torch.tensor(float("inf"))}
        torch.save(content, tmp_path / "forged.ckpt")
        _, best = fit(2, tmp_path / "forged.ckpt")
        assert (other / "a.ckpt").is_file()
        assert (tmp_path / "run" / "folder.ckpt").is_dir()
        assert name not in best.best_k_models


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_resumed_run_knows_its_best_checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    task = DistillationTask(resnet8(), resnet8(), [("layer1", "layer1")], ["layer1"])
    seen: list[dict[str, torch.Tensor]] = []
    for epochs, resumed in ((1, None), (2, tmp_path / "last.ckpt")):
        best = ModelCheckpoint(tmp_path, monitor="val/distillation_loss", save_top_k=2, save_last=True)
        options: dict[str, Any] = {"enable_checkpointing": True, "limit_train_batches": 1, "max_epochs": epochs}
        make_trainer(callbacks=[best], **options).fit(task, Digits(batch_size=4), ckpt_path=resumed)
        seen.append(dict(best.best_k_models))
    assert len(seen[0]) == 1
    assert len(seen[1]) == 2
    assert seen[0].items() <= seen[1].items()
