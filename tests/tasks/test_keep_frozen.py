"""What is frozen is bit-identical after training, whatever callbacks and optimizers do, or the run fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ModelPruning, StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn

from splitlearn.codecs import Huffman
from splitlearn.data import Digits
from splitlearn.models import UnfrozenSplitModel, frozen_tensors
from splitlearn.quantizers import Step
from splitlearn.tasks import (
    ClassificationTask,
    DistillationTask,
    FrozenError,
    KeepFrozen,
)
from splitlearn.tasks.keep_frozen import check_frozen
from splitlearn.tasks.loading import load_weights_into, read_checkpoint
from tests.networks import datta, halves, network
from tests.tasks.conftest import MakeTrainer


@pytest.fixture
def data() -> Digits:
    return Digits(batch_size=8)


@pytest.fixture
def make_trainer(make_trainer: MakeTrainer) -> MakeTrainer:
    return partial(make_trainer, limit_train_batches=2, limit_val_batches=1)


def before(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in frozen_tensors(module).items()}


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def swa() -> Callback:
    return StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)


def ema() -> Callback:
    return WeightAveraging(avg_fn=get_ema_avg_fn(0.5))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("make", [swa, ema])
@pytest.mark.parametrize("late", [False, True])
def test_averaging_leaves_it_as_it_is(
    make: Callable[[], Callback], late: bool, make_trainer: MakeTrainer, data: Digits, tmp_path: Path
) -> None:
    task = ClassificationTask(datta(), 10)
    parameter = next(iter(task.model.net.head.parameters()))  # type: ignore[union-attr]
    with torch.no_grad():
        parameter[0] = -0.0  # an average of it is 0.0
    kept = before(task)
    trained = [p.detach().clone() for p in task.parameters() if p.requires_grad]
    checkpoints = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=late, every_n_epochs=1)
    make_trainer(callbacks=[make(), checkpoints], enable_checkpointing=True, max_epochs=3).fit(task, data)
    assert not all(map(torch.equal, trained, (p for p in task.parameters() if p.requires_grad)))
    saved = read_checkpoint(tmp_path / "last.ckpt")["state_dict"]
    assert len(kept) > 40
    for name, tensor in kept.items():
        assert torch.equal(frozen_tensors(task)[name], tensor), name
        assert bits(saved[name]) == bits(tensor), name


class Meddler(Callback):
    """Does something to the network after a batch."""

    def __init__(self, change: Callable[[LightningModule], Any]) -> None:
        self.change = change

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.change(pl_module)


@torch.no_grad()
def noise(module: LightningModule) -> None:
    next(iter(module.model.net.parameters())).add_(1e-6)  # type: ignore[union-attr]


def data_noise(module: LightningModule) -> None:
    list(module.model.net.parameters())[3].data *= 1.001  # type: ignore[union-attr]


def count(module: LightningModule) -> None:
    next(b for name, b in module.model.net.named_buffers() if "running_mean" in name).add_(1)  # type: ignore[union-attr]


def clip(module: LightningModule) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.clamp_(-0.05, 0.05)


@pytest.mark.parametrize("change", [noise, data_noise, count, clip])
@pytest.mark.parametrize("validated", [True, False])
def test_a_change_in_training_stops_the_run(
    change: Callable[[LightningModule], None], validated: bool, make_trainer: MakeTrainer, data: Digits, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    trainer = make_trainer(
        callbacks=[Meddler(change), checkpoint], enable_checkpointing=True, limit_val_batches=int(validated)
    )
    with pytest.raises(FrozenError, match=r"model\.net\..* changed while training, although frozen: leave out"):
        trainer.fit(ClassificationTask(datta(), 10), data)
    assert not list(tmp_path.glob("*.ckpt"))


class Early(Callback):
    """Changes the network in one hook outside of the epochs."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, lambda trainer, module, stage="fit": count(module))


@pytest.mark.parametrize(
    ("hook", "when"), [("setup", "before"), ("on_fit_start", "before"), ("on_fit_end", "while"), ("teardown", "after")]
)
def test_a_change_outside_of_the_epochs_stops_the_run(
    hook: str, when: str, make_trainer: MakeTrainer, data: Digits
) -> None:
    with pytest.raises(FrozenError, match=rf"running_mean changed {when} training, although frozen: leave out"):
        make_trainer(callbacks=[Early(hook)]).fit(ClassificationTask(datta(), 10), data)


def test_a_test_keeps_no_copy(make_trainer: MakeTrainer, data: Digits) -> None:
    trainer = make_trainer(limit_test_batches=1)
    trainer.test(ClassificationTask(datta(), 10), data, verbose=False)
    (callback,) = (each for each in trainer.callbacks if isinstance(each, KeepFrozen))  # type: ignore[attr-defined]
    assert not callback._kept


def test_pruning_is_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(FrozenError, match="leave out the callback"):
        make_trainer(callbacks=[ModelPruning("l1_unstructured", amount=0.5)], max_epochs=2).fit(
            ClassificationTask(datta(), 10), data
        )


def test_an_optimizer_of_all_parameters_is_stopped(make_trainer: MakeTrainer, data: Digits) -> None:
    class Greedy(ClassificationTask):
        def configure_optimizers(self) -> Any:
            for parameter in self.parameters():
                parameter.requires_grad_()
            return torch.optim.SGD(self.parameters(), 0.1, weight_decay=0.1)

    with pytest.raises(FrozenError, match="optimizer"):
        make_trainer().fit(Greedy(datta(), 10), data)


def test_what_wakes_it_does_not_matter(make_trainer: MakeTrainer, data: Digits) -> None:
    class Waker(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for module in pl_module.modules():
                module.training = True

    task = ClassificationTask(datta(), 10)
    kept = before(task)
    make_trainer(callbacks=[Waker()]).fit(task, data)
    assert all(torch.equal(frozen_tensors(task)[name], tensor) for name, tensor in kept.items())


def test_exchanged_norms_stay_frozen(make_trainer: MakeTrainer, data: Digits) -> None:
    class Exchange(Callback):  # as Lightning's sync_batchnorm does
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            nn.SyncBatchNorm.convert_sync_batchnorm(pl_module)  # type: ignore[no-untyped-call]

    task = ClassificationTask(datta(), 10)
    kept = before(task)
    trainer = make_trainer(callbacks=[Exchange()], limit_train_batches=0, limit_val_batches=1)
    trainer.fit(task, data)
    norms = [m for m in task.model.net.modules() if isinstance(m, nn.SyncBatchNorm)]  # type: ignore[union-attr]
    task.train()
    assert norms
    assert not any(norm.training for norm in norms)
    assert frozen_tensors(task).keys() == kept.keys()


def test_a_rounded_run_saves_it_in_full(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    callback = KeepFrozen()
    task = ClassificationTask(datta(), 10)
    kept = before(task)
    callback.setup(make_trainer(), task, "fit")
    task.model.net.bfloat16()
    callback.on_fit_start(make_trainer(), task)
    callback.on_fit_end(make_trainer(), task)
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict()}
    callback.on_save_checkpoint(make_trainer(), task, checkpoint)
    assert all(torch.equal(checkpoint["state_dict"][name], tensor) for name, tensor in kept.items())


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_changed_checkpoint_is_refused(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, filename="last")
    task = ClassificationTask(datta(), 10)
    make_trainer(callbacks=[checkpoint], enable_checkpointing=True).fit(task, data)
    content = read_checkpoint(tmp_path / "last.ckpt")
    load_weights_into(ClassificationTask(datta(seed=1), 10), content, "last.ckpt")
    name = next(name for name in content["state_dict"] if name.endswith("running_var"))
    content["state_dict"][name].zero_()
    with pytest.raises(FrozenError, match=r"in last.ckpt, 1 tensors of the frozen network have changed"):
        load_weights_into(task, content, "last.ckpt")
    torch.save(content, tmp_path / "last.ckpt")
    elsewhere = ModelCheckpoint(tmp_path / "again", filename="last")
    again = make_trainer(callbacks=[elsewhere], enable_checkpointing=True, max_epochs=2)
    for run in (again.fit, again.test):
        with pytest.raises(FrozenError, match="use another checkpoint of the run"):
            run(task, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=False)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_keeps_what_it_has_loaded(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    task, other = (ClassificationTask(datta(seed=seed), 10) for seed in (0, 1))
    checkpoint = ModelCheckpoint(tmp_path, filename="last")
    make_trainer(callbacks=[checkpoint], enable_checkpointing=True).fit(task, data)
    elsewhere = ModelCheckpoint(tmp_path / "again", filename="last")
    again = make_trainer(callbacks=[elsewhere], enable_checkpointing=True, max_epochs=2)
    kept = before(task)
    again.fit(other, data, ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    saved = read_checkpoint(tmp_path / "again" / "last.ckpt")
    check_frozen(saved, "it")
    assert all(torch.equal(frozen_tensors(other)[name], tensor) for name, tensor in kept.items())
    assert all(torch.equal(saved["state_dict"][name], tensor) for name, tensor in kept.items())


def test_a_students_frozen_parts_are_kept(make_trainer: MakeTrainer, data: Digits) -> None:
    task = DistillationTask(network(0), network(1), [("layer2", "layer2")], ["layer2"])
    kept = before(task)
    assert any("layer3" in name for name in kept)
    assert not any("layer2" in name for name in kept)
    make_trainer(callbacks=[swa()], max_epochs=3).fit(task, data)
    assert all(torch.equal(frozen_tensors(task)[name], tensor) for name, tensor in kept.items())
    with pytest.raises(FrozenError, match="layer"):
        make_trainer(callbacks=[Meddler(clip_student)]).fit(task, data)


def clip_student(module: LightningModule) -> None:
    with torch.no_grad():
        next(iter(module.model.get_submodule("layer1").parameters())).add_(1)  # type: ignore[union-attr]


def test_what_trains_may_change(make_trainer: MakeTrainer, data: Digits) -> None:
    model = UnfrozenSplitModel(halves("layer2"), Step(0.1), Huffman())
    assert not frozen_tensors(model)
    make_trainer(callbacks=[swa(), Meddler(noise)], max_epochs=2).fit(ClassificationTask(model, 10), data)
