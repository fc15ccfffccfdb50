"""Schedules of the learning rate fit the run, or it does not begin."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, ReduceLROnPlateau

from splitlearn.data import Digits
from splitlearn.tasks import ClassificationTask
from splitlearn.tasks.schedules import better_mode
from tests.networks import datta
from tests.tasks.conftest import MakeTrainer

PLATEAU = partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9)  # nothing is ever good enough
CYCLE = partial(OneCycleLR, max_lr=0.01)


@pytest.fixture
def data() -> Digits:
    return Digits(batch_size=8)


def task(scheduler: object) -> ClassificationTask:
    return ClassificationTask(datta(), 10, optimizer=partial(torch.optim.SGD, lr=1.0), lr_scheduler=scheduler)  # type: ignore[arg-type]


@pytest.mark.parametrize(("every", "rate"), [(1, 0.0625), (2, 0.25), (4, 0.5)])
def test_a_plateau_is_looked_for_after_each_validation(
    every: int, rate: float, make_trainer: MakeTrainer, data: Digits
) -> None:
    trainer = make_trainer(max_epochs=4, check_val_every_n_epoch=every, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(task(PLATEAU), data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 3, "max_epochs": 2}])
def test_a_plateau_without_validation_is_refused(
    options: dict[str, int], make_trainer: MakeTrainer, data: Digits
) -> None:
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau watches val/task_loss, .* let it validate"):
        make_trainer(**options).fit(task(PLATEAU), data)


def test_a_plateau_that_takes_worse_for_better_is_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match=r"watches val/task_loss in the wrong mode, max: set its mode to min"):
        make_trainer().fit(task(partial(PLATEAU, mode="max")), data)


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("val/task_loss", "min"),
        ("val/estimated_bits", "min"),
        ("val/bytes_per_image", "min"),
        ("train/error", "min"),
        ("val/accuracy_top5", "max"),
        ("val/map", "max"),
        ("val/map50", "max"),
        ("val/miou", "max"),
        ("val/mapped", None),
        ("epoch", None),
        ("accuracy_loss", None),
    ],
)
def test_the_name_of_a_metric_tells_its_mode(metric: str, mode: str | None) -> None:
    assert better_mode(metric) == mode


def test_a_longer_resume_of_one_cycle_is_refused_at_once(
    make_trainer: MakeTrainer, data: Digits, tmp_path: Path
) -> None:
    options = {"enable_checkpointing": True, "limit_train_batches": 2, "limit_val_batches": 1}
    make_trainer(callbacks=[ModelCheckpoint(tmp_path, filename="last")], **options).fit(task(CYCLE), data)
    longer = make_trainer(callbacks=[ModelCheckpoint(tmp_path / "again")], max_epochs=2, **options)
    with pytest.raises(ValueError, match=r"planned for 2 steps, .* this run takes 4: keep max_epochs as it was"):
        longer.fit(task(CYCLE), data, ckpt_path=tmp_path / "last.ckpt", weights_only=False)


def test_a_cycle_that_ends_before_the_run_is_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match="planned for 2 steps"):
        make_trainer(limit_train_batches=3).fit(task(partial(CYCLE, total_steps=2)), data)
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or max_steps"):
        make_trainer(max_epochs=-1).fit(task(CYCLE), data)


def test_a_cycle_and_averaging(make_trainer: MakeTrainer, data: Digits) -> None:
    averaging = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)
    with pytest.warns(UserWarning, match="SWA is currently only supported every epoch"):
        make_trainer(max_epochs=2, limit_train_batches=1, limit_val_batches=1, callbacks=[averaging]).fit(
            task(CYCLE), data
        )


def test_another_error_of_a_scheduler_is_its_own(make_trainer: MakeTrainer, data: Digits) -> None:
    for wrong, told in ((partial(LinearLR, start_factor=2.0), "factor"), (partial(CYCLE, pct_start=2.0), "pct_start")):
        with pytest.raises(ValueError, match=told):
            make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(task(wrong), data)
