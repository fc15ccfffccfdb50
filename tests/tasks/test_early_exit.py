"""Joint training of exits, and a test in which images really leave."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from splitlearn.codecs import Huffman
from splitlearn.data import Digits
from splitlearn.losses import EntropyRate, L1Rate
from splitlearn.models import EarlyExitModel, resnet8, split
from splitlearn.quantizers import MinMax
from splitlearn.tasks import EarlyExitTask, StaticTables
from tests.networks import SHAPE, digits
from tests.tasks.conftest import MakeTrainer


def make_task(exits: list[str] | None = None, threshold: float = 0.5, **settings: Any) -> EarlyExitTask:
    model = EarlyExitModel(split(resnet8(), "layer2", SHAPE), MinMax(8), Huffman(), exits, threshold=threshold)
    settings.setdefault("optimizer", partial(torch.optim.Adam, lr=0.003))
    return EarlyExitTask(model, 10, **settings)


def test_fit_learns_at_all_exits(make_trainer: MakeTrainer, data: Digits) -> None:
    task = make_task(["layer1", "layer2"], rate_loss=EntropyRate(), rate_weight=0.1)
    trainer = make_trainer(limit_train_batches=25, callbacks=[StaticTables(40)])
    before = {name: p.clone() for name, p in task.named_parameters()}
    trainer.fit(task, data)
    assert not [name for name, p in task.named_parameters() if torch.equal(p, before[name])]
    logged = trainer.callback_metrics
    each = [logged[f"val/accuracy_{name}"].item() for name in ("exit_0", "exit_1", "final")]
    assert min(each) > 0.25
    assert logged["val/accuracy"].item() == pytest.approx(sum(each) / 3)
    assert logged.keys() >= {"val/task_loss", "val/estimated_bits", "val/table_bytes", "train/rate_loss"}
    assert task.model.table_bytes == 256
    assert task.rate_loss is not None
    assert task.rate_loss.get_buffer("ranges.0.batches") > 10


def test_a_plain_network_is_told_to_be_wrapped() -> None:
    with pytest.raises(
        TypeError, match=r"a EarlyExitTask needs a model such as SplitModel .* got CifarResNet: wrap it"
    ):
        EarlyExitTask(resnet8(), 10)  # type: ignore[arg-type]


def test_soft_labels_train() -> None:
    task = make_task()
    task.log_losses = lambda losses, size: None  # type: ignore[method-assign]
    images, labels = digits(6), torch.arange(6)
    task.model.eval()
    losses = [task.training_step((images, each), 0) for each in (labels, functional.one_hot(labels, 10).float())]
    torch.testing.assert_close(*losses)
    with pytest.raises(ValueError, match="an image has the label 10"):
        task.training_step((images, labels + 5), 1)


def test_a_validation_before_fit_leaves_nothing_behind(make_trainer: MakeTrainer, data: Digits) -> None:
    task = make_task(["layer1", "layer2"])
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=1)
    trainer.validate(task, data, verbose=False)
    trainer.fit(task, data)
    assert 0 <= trainer.callback_metrics["val/accuracy"].item() <= 1


@pytest.mark.parametrize("weights", [None, [0.2, 0.7]])
def test_loss_is_the_weighted_sum(weights: list[float] | None) -> None:
    task = make_task(exit_weights=weights, rate_loss=L1Rate(), rate_weight=0.25)
    task.log_losses = lambda losses, size: None  # type: ignore[method-assign]
    images, labels = digits(6), torch.arange(6)
    task.model.eval()  # so that batch statistics stay
    output = task.model.run(images)
    first, last = (functional.cross_entropy(logits, labels) for logits in (output.exits[0], output.prediction))
    one, other = weights or (0.5, 0.5)
    expected = one * first + other * last + 0.25 * output.latents[0].abs().mean()
    assert torch.isclose(task.training_step((images, labels), 0), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.13, 1.0])
def test_images_that_left_count_as_0_bytes(make_trainer: MakeTrainer, data: Digits, threshold: float) -> None:
    task = make_task(threshold=threshold)
    (logged,) = make_trainer(limit_test_batches=1).test(task, data, verbose=False)
    data.setup("test")
    images, labels = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    task.eval()
    payloads = task.model.compress(images)
    share = sum(not payload for payload in payloads) / len(payloads)
    assert logged["test/exit_share"] == pytest.approx(share)
    assert (threshold == 0.13) == (0 < share < 1)
    assert logged["test/bytes_per_image"] == pytest.approx(sum(map(len, payloads)) / len(images))
    assert logged["test/accuracy"] == pytest.approx((task.model(images).argmax(1) == labels).float().mean().item())
    assert (logged["test/bytes_per_image"] == 0) == (threshold == 0)


def test_predictions_are_those_of_exits_and_payloads(make_trainer: MakeTrainer, data: Digits) -> None:
    task = make_task(threshold=0.13)
    (first, *_) = make_trainer(limit_predict_batches=1).predict(task, data) or []
    images = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)[0]
    assert isinstance(first, Tensor)
    assert torch.equal(first[:, 0], task.eval().model(images).argmax(1))
    assert first[:, 2].tolist() == list(map(len, task.model.compress(images)))
    heading, *rows = task.prediction_table([first], None)
    assert heading == ["image", "class", "name", "exit", "bytes"]
    assert {row[3] for row in rows if not row[4]} == {"layer2"}
    assert {row[3] for row in rows if row[4]} == {"final"}


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_weight must be finite and not negative, got -1"):
        make_task(rate_loss=L1Rate(), rate_weight=-1)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.5, 0.5], [0.5, -0.1], [0.5, float("nan")]])
def test_weights_that_do_not_fit_the_exits_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"exit_weights must be 2 numbers.*one for each of layer2"):
        make_task(exit_weights=weights)


def test_classes_of_network_and_data_must_agree() -> None:
    task = make_task()
    with pytest.raises(ValueError, match="label 12, but num_classes is 10"):
        task.validation_step((digits(2), torch.tensor([1, 12])), 0)
