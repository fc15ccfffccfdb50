"""What trains, what is logged, and that the sizes logged are those of the payloads."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR, ReduceLROnPlateau, StepLR

from splitlearn.codecs import Huffman
from splitlearn.data import Digits
from splitlearn.losses import FeatureDistillation, L1Rate
from splitlearn.models import EarlyExitModel, GainModel, InputModel, Pixels, SplitModel, resnet8, split
from splitlearn.quantizers import MinMax
from splitlearn.tasks import ClassificationTask, EarlyExitTask
from tests.networks import SHAPE, carra, datta, digits, network
from tests.tasks.conftest import MakeTrainer


def state(task: ClassificationTask) -> dict[str, Tensor]:
    return {name: entry.clone() for name, entry in task.state_dict().items() if isinstance(entry, Tensor)}


def test_fit_changes_the_bottleneck_and_nothing_else(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(datta(), 10, rate_loss=L1Rate(), rate_weight=0.1)
    before = state(task)
    trainer = make_trainer()
    trainer.fit(task, data)
    changed = {name for name, entry in state(task).items() if not torch.equal(entry, before[name])}
    assert changed == {name for name in before if name.startswith("model.coder.bottlenecks.")}
    logged = trainer.callback_metrics
    assert logged.keys() >= {"val/accuracy", "val/accuracy_top5", "val/estimated_bits", "val/task_loss"}
    assert logged.keys() >= {"train/task_loss", "train/rate_loss", "train/loss"}
    assert 0 <= logged["val/accuracy"] <= logged["val/accuracy_top5"] <= 1


def test_the_loss_of_a_batch_is_divided_by_the_root_of_the_factor_of_its_rate() -> None:
    model = GainModel(datta(), [4.0, 1.0]).train()
    task = ClassificationTask(model, 10, rate_loss=L1Rate(), rate_weight=0.1)
    logged: dict[str, Tensor] = {}
    task.log_losses = lambda losses, size: logged.update(losses)  # type: ignore[method-assign]
    drawn = set()
    for _ in range(20):
        loss = task.training_step((digits(4), torch.zeros(4, dtype=torch.int64)), 0)
        factor = model.rate_weights[model.quantizer.rate]
        assert loss.item() == pytest.approx(logged["train/loss"].item() / factor**0.5)
        rate = logged["train/task_loss"] + 0.1 * factor * logged["train/rate_loss"]
        assert logged["train/loss"].item() == pytest.approx(rate.item())
        drawn.add(factor)
    assert drawn == {4.0, 1.0}


def test_a_bottleneck_that_sends_the_same_for_every_image_is_told(make_trainer: MakeTrainer, data: Digits) -> None:
    model = datta()
    task = ClassificationTask(model, 10)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "all .* images have the same payload")
        make_trainer().test(task, data, verbose=False)
        exits = EarlyExitModel(split(resnet8(), "layer2", SHAPE), MinMax(4), Huffman(), threshold=0.0)
        make_trainer().test(EarlyExitTask(exits, 10), data, verbose=False)  # nothing is sent, which is no collapse
    with torch.no_grad():
        for parameter in model.coder.bottlenecks.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="all 64 images have the same payload: the bottleneck has collapsed"):
        make_trainer().test(task, data, verbose=False)


@pytest.mark.slow
def test_a_little_training_is_enough_to_learn_something(make_trainer: MakeTrainer, data: Digits) -> None:
    """All of a small network, one epoch: far above the tenth of a guess."""
    torch.manual_seed(1)
    task = ClassificationTask(InputModel(resnet8().train(), Pixels()), 10, optimizer=partial(torch.optim.Adam, lr=0.01))
    trainer = make_trainer(limit_train_batches=1.0)
    torch.manual_seed(1)
    trainer.fit(task, data)
    assert trainer.callback_metrics["val/accuracy"] > 0.4
    assert "val/estimated_bits" not in trainer.callback_metrics  # pixels have no symbols


def batches(data: Digits, count: int) -> list[tuple[Tensor, Tensor]]:
    data.setup("test")
    return [data.on_after_batch_transfer(b, 0) for _, b in zip(range(count), data.test_dataloader(), strict=False)]


@pytest.mark.parametrize("make", [datta, carra, lambda: InputModel(network(), Pixels())])
def test_measured_sizes_are_those_of_the_payloads(make_trainer: MakeTrainer, data: Digits, make: Any) -> None:
    task = ClassificationTask(make(), 10).eval()
    trainer = make_trainer()
    (logged,) = trainer.test(task, data, verbose=False)
    task.eval()
    sizes: list[int] = []
    hits: list[bool] = []
    for images, labels in batches(data, 2):
        payloads = task.model.compress(images)
        sizes += map(len, payloads)
        hits += (task.model.decompress(payloads).argmax(1) == labels).tolist()
    assert len(sizes) == 64
    assert logged["test/bytes_per_image"] == pytest.approx(sum(sizes) / 64)
    assert logged["test/bits_per_pixel"] == pytest.approx(8 * sum(sizes) / 64 / 32 / 32)
    assert logged["test/accuracy"] == pytest.approx(sum(hits) / 64)
    assert logged["test/accuracy_top5"] >= logged["test/accuracy"]


def test_the_estimate_is_the_entropy_of_the_symbols(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(carra(), 10)
    (logged,) = make_trainer(limit_val_batches=1).validate(task, data, verbose=False)
    model = task.model
    assert isinstance(model, SplitModel)
    batch = next(iter(data.val_dataloader()))
    (symbols,) = model.symbols(data.on_after_batch_transfer(batch, 0)[0])
    share = torch.bincount(symbols.flatten().int()).double() / symbols.numel()
    entropy = -(share[share > 0] * share[share > 0].log2()).sum() * symbols[0].numel()
    assert logged["val/estimated_bits"] == pytest.approx(float(entropy), rel=1e-4)


def test_what_was_validated_can_be_fitted(make_trainer: MakeTrainer, data: Digits) -> None:
    """Validation leaves tensors of inference mode in metrics, which fitting must not add to."""
    task = ClassificationTask(datta(), 10)
    (before,) = make_trainer().validate(task, data, verbose=False)
    trainer = make_trainer(limit_train_batches=1)
    trainer.fit(task, data)
    assert trainer.callback_metrics.keys() >= before.keys()


def test_without_a_bottleneck_there_is_nothing_to_fit(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match=r"nothing trains, since .*: run `test`"):
        make_trainer().fit(ClassificationTask(carra(), 10), data)


def test_predictions_come_from_payloads(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(datta(), 10)
    predicted = make_trainer(limit_predict_batches=1).predict(task, data)
    images, _ = batches(data, 1)[0]
    task.eval()
    expected = task.model.decompress(task.model.compress(images)).argmax(1)
    assert predicted is not None
    assert torch.equal(torch.cat(predicted), expected)  # type: ignore[arg-type]


def test_few_classes_have_no_top_five(make_trainer: MakeTrainer) -> None:
    task = ClassificationTask(datta(), 5)
    assert set(task.val_scores.keys()) == {"val/accuracy"}
    assert set(ClassificationTask(datta(), 6).val_scores.keys()) == {"val/accuracy", "val/accuracy_top5"}
    assert task(digits(2)).shape == (2, 10)


@pytest.mark.parametrize("rate_weight", [0.0, 0.5])
@pytest.mark.parametrize("distillation_weight", [None, 2.0])
def test_the_loss_is_the_sum_of_its_terms(
    make_trainer: MakeTrainer, data: Digits, rate_weight: float, distillation_weight: float | None
) -> None:
    distilled = distillation_weight is not None
    task = ClassificationTask(
        datta(),
        10,
        rate_loss=L1Rate(),
        rate_weight=rate_weight,
        distillation=FeatureDistillation() if distilled else None,
        distillation_weight=distillation_weight or 0.0,
    )
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/rate_loss"] > 0
    expected = logged["train/task_loss"] + rate_weight * logged["train/rate_loss"]
    assert ("train/distillation_loss" in logged) == distilled
    if distillation_weight is not None:
        assert logged["train/distillation_loss"] > 0
        expected += distillation_weight * logged["train/distillation_loss"]
    assert logged["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_distillation_brings_the_features_nearer(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(
        datta(),
        10,
        distillation=FeatureDistillation(),
        distillation_weight=10.0,
        optimizer=partial(torch.optim.Adam, lr=0.01),
    )

    @torch.no_grad()
    def distance() -> float:
        output = task.model.run(digits(16))
        return float(FeatureDistillation()(output.features_hat, output.features))

    before = distance()
    make_trainer(limit_train_batches=20, limit_val_batches=0).fit(task, data)
    assert distance() < 0.9 * before


SGD = partial(torch.optim.SGD, lr=0.01)


def fitted(trainer: Trainer, scheduler: Any, data: Digits) -> tuple[Trainer, Any]:
    trainer.fit(ClassificationTask(datta(), 10, optimizer=SGD, lr_scheduler=scheduler), data)
    (config,) = trainer.lr_scheduler_configs
    return trainer, config


def test_one_cycle_gets_the_length_of_the_run(make_trainer: MakeTrainer, data: Digits) -> None:
    trainer = make_trainer(max_epochs=2, limit_val_batches=0)
    trainer, config = fitted(trainer, partial(OneCycleLR, max_lr=0.1, cycle_momentum=False), data)
    assert config.interval == "step"
    assert config.scheduler.total_steps == trainer.global_step == 6
    assert config.scheduler.last_epoch == 6


def test_other_schedulers_step_once_an_epoch(make_trainer: MakeTrainer, data: Digits) -> None:
    trainer = make_trainer(max_epochs=2, limit_val_batches=0)
    trainer, config = fitted(trainer, partial(StepLR, step_size=1, gamma=0.1), data)
    assert config.interval == "epoch"
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2)


def test_a_given_length_is_kept(make_trainer: MakeTrainer, data: Digits) -> None:
    scheduler = partial(OneCycleLR, max_lr=0.1, total_steps=77, cycle_momentum=False)
    _, config = fitted(make_trainer(limit_val_batches=0), scheduler, data)
    assert config.scheduler.total_steps == 77
    assert config.interval == "step"


def test_a_plateau_is_one_of_the_validation_loss(make_trainer: MakeTrainer, data: Digits) -> None:
    _, config = fitted(make_trainer(), ReduceLROnPlateau, data)
    assert config.monitor == "val/task_loss"
    assert config.reduce_on_plateau


def test_a_scheduler_lacking_an_argument_says_which(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(TypeError, match="max_lr"):
        fitted(make_trainer(), OneCycleLR, data)


def test_without_a_scheduler_the_learning_rate_stays(make_trainer: MakeTrainer, data: Digits) -> None:
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(ClassificationTask(datta(), 10, optimizer=SGD), data)
    assert trainer.lr_scheduler_configs == []
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01
    _, config = fitted(make_trainer(limit_val_batches=0), partial(ConstantLR, factor=0.5, total_iters=5), data)
    assert config.interval == "epoch"


def test_a_wrong_number_of_classes_is_told(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match=r"num_classes is 7, and Digits has 10 \(0, 1, 2, …\): the classes of network"):
        make_trainer().fit(ClassificationTask(datta(), 7), data)


@pytest.mark.parametrize("work", ["validate", "test"])
def test_classes_of_network_and_data_must_be_the_same(make_trainer: MakeTrainer, data: Digits, work: str) -> None:
    """Before any metric sees them: its own words name neither the network nor `num_classes`."""
    for classes in (7, 12):
        other = ClassificationTask(InputModel(resnet8(num_classes=classes)), 10)
        with pytest.raises(
            ValueError, match=rf"output has shape \({classes},\) per image, but num_classes is 10: the "
        ):
            getattr(make_trainer(), work)(other, data, verbose=False)
        with pytest.raises(ValueError, match="but num_classes is 10"):
            make_trainer().predict(other, data)
    few = ClassificationTask(InputModel(resnet8(num_classes=3), Pixels()), 3)
    few.log = lambda *_, **__: None  # type: ignore[method-assign]
    few.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    for label in (9, -1):
        message = rf"an image has the label {label}, but num_classes is 3: the classes of network and"
        with pytest.raises(ValueError, match=message):
            getattr(few, f"{work}_step".replace("validate", "validation"))((digits(1), torch.tensor([label])), 0)
