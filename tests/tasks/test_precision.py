"""Trainers of any precision: what float32 gives within rounding, or one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from splitlearn.codecs import Huffman
from splitlearn.data import Digits
from splitlearn.metrics import BytesPerImage, Share
from splitlearn.models import CutError, EarlyExitModel, SplitModel, resnet8, split
from splitlearn.quantizers import Clipped
from splitlearn.tasks import ClassificationScores, ClassificationTask, DetectorTrainingTask, EarlyExitTask
from tests.networks import datta
from tests.tasks.conftest import MakeTrainer
from tests.tasks.test_distillation import classifier, detector, pedestrians  # noqa: F401, a fixture
from tests.tasks.test_distillation import data as people

CAST = ["bf16-true", "64-true"]


def exits() -> EarlyExitModel:
    torch.manual_seed(0)
    return EarlyExitModel(split(resnet8(), "layer1", (3, 32, 32)), Clipped(0.0, 3.0), Huffman())


@pytest.mark.parametrize("precision", CAST)
def test_a_student_is_distilled_in_other_precisions(make_trainer: MakeTrainer, data: Digits, precision: Any) -> None:
    losses = []
    for each in ("32-true", precision):
        torch.manual_seed(0)
        (logged,) = make_trainer(precision=each).validate(
            classifier(scores=ClassificationScores(10)), data, verbose=False
        )
        losses.append(logged["val/distillation_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


@pytest.mark.parametrize("precision", CAST)
def test_losses_are_those_of_single_precision(make_trainer: MakeTrainer, data: Digits, precision: Any) -> None:
    losses = []
    for each in ("32-true", precision):
        trainer = make_trainer(precision=each)
        (logged,) = trainer.validate(ClassificationTask(datta(), 10), data, verbose=False)
        losses.append(logged["val/task_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_weights_in_half_do_not_train(make_trainer: MakeTrainer, data: Digits) -> None:
    for task in (ClassificationTask(datta(), 10), classifier()):
        with pytest.raises(ValueError, match=r"use --trainer\.precision bf16-true"):
            make_trainer(precision="16-true").fit(task, data)


@pytest.mark.parametrize("precision", ["16-true", *CAST])
def test_boxes_are_not_cast(make_trainer: MakeTrainer, pedestrians: Path, precision: Any) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="use 32-true, or bf16-mixed"):
        make_trainer(precision=precision).test(DetectorTrainingTask(detector(), 1), people(pedestrians), verbose=False)


def test_counts_do_not_stop_in_a_cast_task() -> None:
    task = EarlyExitTask(exits(), 10).to(torch.bfloat16)
    for _ in range(2):
        task.overall_accuracy.update(torch.arange(600) % 3 > 0)
        task.exit_share.update(torch.tensor([True]))
    assert task.overall_accuracy.compute() == 2 / 3
    assert task.exit_share.compute() == 1
    sizes = BytesPerImage().to(torch.bfloat16)
    sizes.update([b"x" * 16_777_217, b"", b""])
    assert sizes.compute() == 16_777_217 / 3
    assert Share().counted.dtype == torch.long


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_temperatures_are_not_cast(dtype: torch.dtype) -> None:
    model = exits()
    model.temperatures.fill_(1.2345678)
    before = model.temperatures.clone()
    assert torch.equal(model.to(dtype).temperatures, before)
    state = {k: t.to(dtype) if isinstance(t, torch.Tensor) else t for k, t in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model.temperatures.dtype == torch.float32


def test_models_without_values() -> None:
    model = SplitModel(split(resnet8(), "layer1", (3, 32, 32)), Clipped(0.0, 3.0), Huffman()).to("meta")
    assert "Clipped(on meta" in repr(model)
    network = resnet8()
    with torch.device("meta"), pytest.raises(CutError, match="build and split the network on the CPU"):
        split(network, "layer1", (3, 32, 32))
    with pytest.raises(CutError, match="build and split the network on the CPU"):
        split(network.to("meta"), "layer1", (3, 32, 32))
