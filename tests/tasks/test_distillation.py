"""Only what is named trains, the teacher leaves no graph, and the student comes to give what the teacher gives."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from splitlearn.data import Digits, PennFudan
from splitlearn.deploy import export_network
from splitlearn.losses import EntropyRate, L1Rate
from splitlearn.models import (
    Normalize,
    RedesignedLayer1,
    faster_rcnn,
    mask_rcnn,
    replaced,
    resnet8,
)
from splitlearn.quantizers import Step
from splitlearn.tasks import (
    ChannelsLast,
    ClassificationScores,
    DetectionScores,
    DetectorTrainingTask,
    DistillationTask,
)
from tests.tasks.conftest import MakeTrainer

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"min_size": 64, "max_size": 96, "pyramid": 16, "box_width": 16, "proposals": 20}
LAYERS = [f"backbone.body.layer{n}" for n in (1, 2, 3, 4)]
STEM = ["backbone.body.conv1", "backbone.body.layer1"]


@pytest.fixture
def pedestrians(tmp_path: Path) -> Path:
    """Eight pictures of different sizes; one of them shows nobody."""
    root = tmp_path / "pedestrians"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(8):
        height, width = 60 + 7 * n, 90 - 5 * n
        ids = torch.zeros(height, width, dtype=torch.uint8)
        for k in range(n % 3):
            ids[10:50, 5 + 25 * k : 20 + 25 * k] = k + 1
        noise = torch.randint(0, 100, (height, width, 3), dtype=torch.uint8) + 100 * (ids > 0)[:, :, None]
        Image.fromarray(noise.to(torch.uint8).numpy()).save(root / f"images/{n}.png")
        Image.fromarray(ids.numpy()).save(root / f"masks/{n}.png")
    return root


def data(root: Path) -> PennFudan:
    return PennFudan(root, test_size=2, val_size=2, batch_size=2)


def detector(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return faster_rcnn("resnet18", 2, **SMALL | options)


def student(teacher: nn.Module, channels: int = 3) -> nn.Module:
    """Return the teacher's copy with a bottleneck."""
    copy = detector()
    copy.load_state_dict(teacher.state_dict())
    return replaced(copy, LAYERS[0], RedesignedLayer1(64, channels, 64, width=8))


def distillation(layers: list[str] = LAYERS, **options: Any) -> DistillationTask:
    teacher = detector()
    pairs = [(layer, layer) for layer in layers]
    return DistillationTask(teacher, student(teacher), pairs, STEM, **options)


class SeenObjects(DetectionScores):
    """Notes the boxes that are scored."""

    def __init__(self) -> None:
        super().__init__(1)
        self.boxes: list[Tensor] = []

    def update(self, output: Any, targets: Any) -> None:
        self.boxes += [found["boxes"] for found in output]
        super().update(output, targets)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("layers", [LAYERS[:1], LAYERS], ids=["HND", "GHND"])
def test_only_what_is_named_changes(make_trainer: MakeTrainer, pedestrians: Path, layers: list[str]) -> None:
    task = distillation(layers, scores=DetectionScores(1))
    teacher, before = state(task.teacher), state(task.model)
    trainer = make_trainer(callbacks=[ChannelsLast()], max_epochs=2)
    trainer.fit(task, data(pedestrians))
    after = task.model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    trained = {name for name in before if name.startswith(tuple(f"{part}." for part in STEM))}
    assert changed == trained  # batch norms' statistics and counters among them
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in task.teacher.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in task.teacher.parameters())
    assert {"val/distillation_loss", "val/map", "val/map_50"} <= trainer.callback_metrics.keys()
    assert not any(name.startswith(("_teacher", "teacher")) for name in task.state_dict())


def test_the_teacher_makes_no_graph_and_heads_do_not_run(pedestrians: Path) -> None:
    task = distillation()
    for network in (task.teacher, task.model):
        network.get_submodule("rpn").register_forward_hook(lambda *_: pytest.fail("more than the backbone runs"))
    outputs: list[Tensor] = []
    for layer in LAYERS:
        task.teacher.get_submodule(layer).register_forward_hook(lambda _, __, output: outputs.append(output))
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    loss = task.training_step(([torch.rand(3, 64, 80), torch.rand(3, 70, 60)], []), 0)
    assert len(outputs) == len(LAYERS)
    assert not any(output.requires_grad for output in outputs)
    loss.backward()  # type: ignore[no-untyped-call]
    with_gradient = {name for name, p in task.model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in task.model.named_parameters() if name.startswith(tuple(STEM))}


def test_only_what_trains_changes_its_mode() -> None:
    task = distillation()
    for mode in (False, True, False):
        task.train(mode)
        awake = {name for name, module in task.model.named_modules() if module.training}
        assert awake == {name for name, _ in task.model.named_modules() if mode and name.startswith(tuple(STEM))}
    assert not any(module.training for module in task.teacher.modules())


def test_the_loss_is_the_sum_of_squares_of_the_pairs() -> None:
    task = distillation(LAYERS[:2])
    given = [torch.rand(2, 3), torch.rand(2, 5, 4)]
    wanted = [torch.rand(2, 3), torch.rand(2, 5, 4)]
    squares = sum(float((a - b).square().sum()) for a, b in zip(given, wanted, strict=True))
    assert float(task.distance(given, wanted)) == pytest.approx(squares, rel=1e-5)
    mean = distillation(LAYERS[:1], criterion=nn.MSELoss())
    assert float(mean.distance(given[:1], wanted[:1])) == pytest.approx(float((given[0] - wanted[0]).square().mean()))


def test_a_student_of_a_classifier_learns(make_trainer: MakeTrainer) -> None:
    images = Digits(batch_size=16)
    teacher, copy = resnet8(), resnet8()
    copy.load_state_dict(teacher.state_dict())
    learner = replaced(copy, "layer1", RedesignedLayer1(16, 4, 16, width=8))
    task = DistillationTask(
        teacher,
        learner,
        [("layer1", "layer1"), ("layer2", "layer2")],
        ["layer1"],
        criterion=nn.MSELoss(),
        normalize=Normalize([0.5] * 3, [0.5] * 3),
        rate_at="layer1.encoder",
        quantizer=Step(0.1),
        rate_loss=L1Rate(),
        rate_weight=0.001,
        scores=ClassificationScores(10),
        optimizer=lambda p: torch.optim.Adam(p, 3e-3),
        warmup_steps=2,
    )
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=2)
    trainer.fit(task, images)
    early = float(trainer.callback_metrics["val/distillation_loss"])
    make_trainer(limit_train_batches=20).fit(task, images)
    late = float(make_trainer().validate(task, images, verbose=False)[0]["val/distillation_loss"])
    assert late < 0.8 * early
    assert "val/accuracy" in trainer.callback_metrics


def test_the_latent_is_quantized_and_rated() -> None:
    seen: list[Tensor] = []
    task = distillation(LAYERS[:1], rate_at=f"{LAYERS[0]}.encoder", quantizer=Step(0.5), rate_loss=EntropyRate())
    task.model.get_submodule(f"{LAYERS[0]}.decoder").register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    logged: dict[str, Any] = {}
    task.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    task.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    task.training_step(([torch.rand(3, 64, 80)], []), 0)
    task.eval()([torch.rand(3, 64, 80)])
    assert len(seen) == 2
    for latent in seen:
        assert torch.equal(latent, (latent / 0.5).round() * 0.5)
    found = {name: float(value.detach()) for name, value in logged.items()}
    assert 0 < found["train/rate_loss"] <= 1
    assert found["train/loss"] == found["train/distillation_loss"]  # the rate's weight is 0


def test_the_learning_rate_warms_up_and_falls(make_trainer: MakeTrainer, pedestrians: Path) -> None:
    rates: list[float] = []
    task = distillation(
        LAYERS[:1],
        optimizer=lambda p: torch.optim.Adam(p, 1e-3),
        lr_scheduler=lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2]),
        warmup_steps=4,
    )
    task.on_train_batch_start = lambda *_: rates.append(task.optimizers().param_groups[0]["lr"])  # type: ignore
    make_trainer(max_epochs=3, limit_train_batches=2).fit(task, data(pedestrians))
    assert rates == pytest.approx([1e-6, 2.5075e-4, 5.005e-4, 7.5025e-4, 1e-4, 1e-4], rel=1e-4)


def classifier(pair: str = "layer2", **options: Any) -> DistillationTask:
    """A distillation whose student is a ResNet-8 with a bottleneck in its first block, which trains."""
    teacher = resnet8()
    learner = replaced(deepcopy(teacher), "layer1", RedesignedLayer1(16, 4, 16, width=8))
    return DistillationTask(teacher, learner, [(pair, pair)], **{"trains": ["layer1"]} | options)


def test_a_warmup_beside_a_rate_that_is_set_at_every_batch_is_refused(make_trainer: MakeTrainer) -> None:
    task = classifier(lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1), warmup_steps=2)
    with pytest.raises(ValueError, match=r"OneCycleLR sets the learning rate at every batch.*leave it out.*pct_start"):
        make_trainer().fit(task, Digits(batch_size=8))


def boxes_scored(make_trainer: MakeTrainer, pedestrians: Path, kind: str, precision: Any) -> list[Tensor]:
    """Return the boxes that a validation scores, of a detector that finds something."""
    seen = SeenObjects()
    if kind == "student":
        task: Any = distillation(scores=seen)
    else:
        task = DetectorTrainingTask(detector(), 1)
        task.val_scores = seen
    task.model.get_submodule("roi_heads").score_thresh = 0.0
    make_trainer(precision=precision).validate(task, data(pedestrians), verbose=False)
    return seen.boxes


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_boxes_are_scored_in_single_precision(make_trainer: MakeTrainer, pedestrians: Path, kind: str) -> None:
    mixed, single = (boxes_scored(make_trainer, pedestrians, kind, each) for each in ("bf16-mixed", "32-true"))
    assert sum(map(len, mixed)) > 0
    for mine, theirs in zip(mixed, single, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)


def test_training_in_half_precision_is_half(make_trainer: MakeTrainer, pedestrians: Path) -> None:
    task, kinds = distillation(LAYERS[:1]), set()
    hook = task.model.get_submodule(f"{LAYERS[0]}.encoder").register_forward_hook(
        lambda module, _, output: kinds.add((module.training, output.dtype))
    )
    make_trainer(precision="bf16-mixed", limit_train_batches=1).fit(task, data(pedestrians))
    hook.remove()
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}


@pytest.mark.slow
def test_two_processes_distil_one_student(pedestrians: Path, tmp_path: Path) -> None:
    before = state(distillation().model)
    command = [sys.executable, "-m", "tests.tasks.two_processes", str(pedestrians), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=500)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert not set(one["means"]) & set(other["means"])  # of the images that each was given
    trained = {name for name in before if name.startswith(tuple(f"{part}." for part in STEM))}
    learnt = {name for name in trained if name.endswith(("weight", "bias"))}
    for name, tensor in before.items():
        assert torch.equal(one["state"][name], tensor) == (name not in trained), name
        if name in learnt or name not in trained:
            assert torch.equal(one["state"][name], other["state"][name]), name
    assert {"val/distillation_loss", "val/map"} <= one["metrics"].keys()
    for name in ("val/distillation_loss", "val/map"):
        assert one["metrics"][name] == other["metrics"][name]


def test_an_exported_student_gives_the_same_boxes(pedestrians: Path, tmp_path: Path) -> None:
    task = distillation()
    file = export_network(task.model, tmp_path / "student.safetensors", parts=task.trains)
    again = replaced(student(task.teacher, 3), LAYERS[0], RedesignedLayer1(64, 3, 64, width=8), file).eval()
    images = [torch.rand(3, 64, 80)]
    task.eval()
    with torch.no_grad():
        for mine, theirs in zip(task(images), again(images), strict=True):
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("masks", [False, True])
def test_a_detector_trains_whole(make_trainer: MakeTrainer, pedestrians: Path, masks: bool) -> None:
    build = mask_rcnn if masks else faster_rcnn
    task = DetectorTrainingTask(
        build("resnet18", 2, **SMALL),
        1,
        frozen=["backbone.body.conv1"],
        lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3),
    )
    before = state(task.model)
    trainer = make_trainer(limit_train_batches=2)
    trainer.fit(task, data(pedestrians))  # an image without objects among the batches
    keys = {"map", "map_50", *(("map_masks", "map_masks_50") if masks else ())}
    assert {f"val/{key}" for key in keys} <= trainer.callback_metrics.keys()
    assert {f"test/{key}" for key in keys} == trainer.test(task, data(pedestrians), verbose=False)[0].keys()
    after = task.model.state_dict()
    assert torch.equal(before["backbone.body.conv1.weight"], after["backbone.body.conv1.weight"])
    assert not torch.equal(before["backbone.body.layer1.0.conv1.weight"], after["backbone.body.layer1.0.conv1.weight"])


def test_labels_masks_and_crowds_reach_the_detector() -> None:
    from splitlearn.outputs import Boxes

    task = DetectorTrainingTask(mask_rcnn("resnet18", 3, **SMALL), 2)
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 1, 8, 8]])
    target = task._target(Boxes(boxes, torch.tensor([0, 1]), crowd=torch.tensor([True, False]), masks=masks))
    assert target["labels"].tolist() == [2]
    assert target["boxes"].tolist() == [[1, 1, 8, 8]]
    assert target["masks"].shape == (1, 8, 8)
    with pytest.raises(ValueError, match="class 2"):
        task._target(Boxes(boxes, torch.tensor([0, 2]), masks=masks))
    with pytest.raises(ValueError, match="the data have only boxes"):
        task._target(Boxes(boxes, torch.tensor([0, 1])))
    with pytest.raises(
        ValueError, match="has 3 classes with the background, but num_classes is 3: give the detector 4"
    ):
        DetectorTrainingTask(mask_rcnn("resnet18", 3, **SMALL), 3)
    with pytest.raises(ValueError, match="detectors of torchvision"):
        DetectorTrainingTask(resnet8(), 2)
    with pytest.raises(ValueError, match="predicts only boxes: leave `masks` out"):
        DetectorTrainingTask(detector(), 1, masks=True)
    assert not DetectorTrainingTask(mask_rcnn("resnet18", 3, **SMALL), 2, masks=False).val_scores.objects.masks
