"""Distillation refuses pairs, parts and latents that do not fit, and rates students that have bytes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from splitlearn.codecs import RANS
from splitlearn.data import Digits
from splitlearn.losses import FactorizedRate, L1Rate, RateLoss
from splitlearn.models import (
    CutError,
    GainModel,
    Normalize,
    NormalizedSeparable,
    RedesignedLayer1,
    SplitModel,
    replaced,
    resnet8,
    split,
)
from splitlearn.quantizers import Step
from splitlearn.tasks import (
    DistillationTask,
    LearntTables,
    StaticTables,
)
from tests.tasks.conftest import MakeTrainer
from tests.tasks.test_distillation import classifier, distillation


def test_what_does_not_fit_is_told(make_trainer: MakeTrainer) -> None:
    with pytest.raises(CutError, match="layer1"):
        DistillationTask(resnet8(), resnet8(), [("layer1", "layer11")], ["layer1"])
    with pytest.raises(CutError, match="layer1"):
        DistillationTask(resnet8(), resnet8(), [("layer1", "layer1")], ["layer11"])
    with pytest.raises(ValueError, match="needs pairs"):
        DistillationTask(resnet8(), resnet8(), [], ["layer1"])
    with pytest.raises(ValueError, match="rate_at"):
        DistillationTask(resnet8(), resnet8(), [("layer1", "layer1")], ["layer1"], rate_loss=L1Rate())
    with pytest.raises(ValueError, match="rate_weight must be finite and not negative, got -1"):
        classifier(rate_weight=-1.0)
    task = DistillationTask(resnet8(), resnet8(), [("layer1", "layer2")], ["layer1"])
    with pytest.raises(ValueError, match=r"teacher's layer1 has shape \(16, 32, 32\).*student's layer2 \(32, 16, 16\)"):
        make_trainer().fit(task, Digits(batch_size=8))
    with pytest.raises(ValueError, match="export the student"):
        make_trainer().test(task, Digits(batch_size=8))


def test_a_teacher_that_would_learn_along_is_told() -> None:
    teacher = resnet8()
    learner = replaced(teacher, "layer1", RedesignedLayer1(16, 4, 16, width=8))
    with pytest.raises(
        ValueError, match=r"layer1\.encoder\.0\.weight .* teacher uses it too.*copy\.deepcopy\(teacher\)"
    ):
        DistillationTask(teacher, learner, [("layer2", "layer2")], ["layer1"])
    other = resnet8()
    other.set_submodule("layer1", resnet8().layer1)
    other.set_submodule("layer2", teacher.layer2)  # it stays as it is, so both may have it
    DistillationTask(teacher, other, [("layer2", "layer2")], ["layer1"])
    with pytest.raises(ValueError, match=r"layer2\..* cannot train, since the teacher uses it too"):
        DistillationTask(teacher, other, [("layer2", "layer2")], ["layer1", "layer2"])


def test_a_student_of_several_rates_is_refused() -> None:
    student = SplitModel(split(resnet8(), "layer2", (3, 32, 32)), Step(1.0), RANS(), NormalizedSeparable)
    with pytest.raises(ValueError, match="a GainModel has several rates, of which a DistillationTask would train one"):
        DistillationTask(resnet8(), GainModel(student, [2.0, 1.0]), [("layer2", "net.head")], ["coder"])


def test_a_latent_behind_the_pairs_is_told(make_trainer: MakeTrainer) -> None:
    task = classifier("layer1", rate_at="layer2", rate_loss=L1Rate())
    with pytest.raises(
        ValueError, match="runs to the last of its paired layers, which does not follow rate_at, layer2"
    ):
        make_trainer().fit(task, Digits(batch_size=8))


def test_a_latent_that_is_overwritten_is_told() -> None:
    task = classifier(rate_at="layer1.decoder.0", rate_loss=L1Rate())  # its norm, and a ReLU behind it
    with pytest.raises(ValueError, match=r"the output of layer1\.decoder\.0 is overwritten"):
        task.training_step((torch.rand(2, 3, 32, 32), torch.zeros(2)), 0)


@pytest.mark.parametrize(
    ("trains", "first"), [(["layer3"], r"layer3\.0\.conv1"), (["layer1", "layer2"], r"layer2\.0\.conv1")]
)
def test_parts_that_learn_nothing_are_told(make_trainer: MakeTrainer, trains: list[str], first: str) -> None:
    task = classifier("layer1", trains=trains)
    with pytest.raises(ValueError, match=rf"{first}\.weight cannot train, since no paired layer depends on it"):
        make_trainer().fit(task, Digits(batch_size=8))


def bytes_between() -> SplitModel:
    return SplitModel(
        split(resnet8(), "layer2", (3, 32, 32)),
        Step(0.1),
        RANS(per_channel=True),
        partial(NormalizedSeparable, channels=8, stride=2),
    )


def of_split_model(rate_loss: RateLoss) -> DistillationTask:
    model = bytes_between()
    pairs = [("layer2", "coder.bottlenecks.0.decoder")]
    at = "coder.bottlenecks.0.encoder"
    return DistillationTask(resnet8(), model, pairs, ["coder.bottlenecks"], None, None, at, None, rate_loss, 0.1)


def test_a_density_is_learnt_of_a_student_with_bytes(make_trainer: MakeTrainer) -> None:
    rate = FactorizedRate()
    task = of_split_model(rate)
    before = rate.means.detach().clone()
    assert before.shape == (8, 3)
    trainer = make_trainer(callbacks=[LearntTables()])
    trainer.fit(task, Digits(batch_size=8))
    assert not torch.equal(rate.means, before)
    assert trainer.callback_metrics["train/rate_loss"] > 0
    assert trainer.callback_metrics["val/table_bytes"] > 0
    with pytest.raises(ValueError, match=r"FactorizedRate needs .* a CifarResNet does not .* or EntropyRate"):
        classifier(rate_at="layer1.encoder", rate_loss=FactorizedRate())


def test_tables_need_a_task_that_makes_symbols(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"a DistillationTask has none: leave StaticTables out"):
        make_trainer(callbacks=[StaticTables()]).fit(of_split_model(L1Rate()), Digits(batch_size=8))


def test_images_in_a_list_are_normalized_too() -> None:
    seen: list[Tensor] = []
    task = distillation(normalize=Normalize([0.5] * 3, [0.25] * 3))
    for network in (task.teacher, task.model):
        network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    images = [torch.rand(3, 64, 80), torch.rand(3, 70, 60)]
    with torch.no_grad():
        task.eval()(images)
        task._wanted(images)
    for mine, image in zip(seen, [*images, *images], strict=True):
        assert torch.equal(mine, (image - 0.5) / 0.25)
