"""Networks, tasks and data that do not belong together are told apart, and none of them scores nonsense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from splitlearn.codecs import Huffman
from splitlearn.data import Digits, ImageFolder, LabelledImages, YoloDetection, YoloObjects
from splitlearn.models import (
    EarlyExitModel,
    InputModel,
    TorchvisionBoxes,
    YoloBoxes,
    backbone,
    faster_rcnn,
    resnet8,
    split,
)
from splitlearn.outputs import Boxes
from splitlearn.quantizers import MinMax
from splitlearn.tasks import (
    ClassificationScores,
    ClassificationTask,
    DetectionScores,
    DetectionTask,
    DetectorTrainingTask,
    EarlyExitTask,
    SegmentationTask,
)
from tests.networks import SHAPE, Colours, carra
from tests.tasks.conftest import MakeTrainer

IMAGES = torch.rand(2, 3, 32, 32)


def exiting(classes: int = 10, **settings: Any) -> EarlyExitModel:
    return EarlyExitModel(split(resnet8(num_classes=classes), "layer2", SHAPE), MinMax(8), Huffman(), **settings)


@pytest.mark.parametrize("make", [ClassificationTask, SegmentationTask, lambda m, n: DetectionTask(m, n, YoloBoxes())])
def test_exits_answer_in_their_own_task_alone(make: Callable[[Any, int], Any]) -> None:
    """Elsewhere an image that has left would count as one of class 0."""
    with pytest.raises(ValueError, match=r"has early exits, which a .*Task does not support: use an EarlyExitTask"):
        make(exiting(), 10)
    with pytest.raises(ValueError, match="a SplitModel has no exits to train: use a ClassificationTask"):
        EarlyExitTask(carra(), 10)  # type: ignore[arg-type]


def test_exits_tell_as_many_classes_apart_as_the_network() -> None:
    model = exiting(5)
    assert model.num_classes == 5
    assert model.run(IMAGES).exits[0].shape == (2, 5)
    assert EarlyExitTask(model, 5).num_classes == 5
    with pytest.raises(ValueError, match="num_classes is 10, but network and exits have 5 classes"):
        EarlyExitTask(model, 10)
    with pytest.raises(ValueError, match="the exits have 10 classes, and CifarResNet has 5: leave"):
        exiting(5, num_classes=10)
    net = split(Colours(), "features", SHAPE)
    with pytest.raises(ValueError, match=r"logits \(B, classes\), that of Colours is \(1, 4, 16, 16\)"):
        EarlyExitModel(net, MinMax(8), Huffman())


def test_a_network_without_bytes_is_told() -> None:
    with pytest.raises(TypeError, match=r"needs a model such as SplitModel or InputModel\(network\), got CifarResNet"):
        ClassificationTask(resnet8(), 10)  # type: ignore[arg-type]


@pytest.fixture
def three_folders(tmp_path: Path) -> ImageFolder:
    for part in ("train", "test"):
        for name in ("cat", "dog", "owl"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (32, 32)).save(tmp_path / part / name / f"{number}.png")
    return ImageFolder(tmp_path, 32, val_size=2)


@pytest.mark.parametrize("work", ["fit", "validate", "test", "predict"])
def test_classes_declared_for_fewer_folders_are_noticed(
    make_trainer: MakeTrainer, three_folders: ImageFolder, work: str
) -> None:
    task = ClassificationTask(InputModel(resnet8(num_classes=5)), 5)
    with pytest.raises(ValueError, match=r"num_classes is 5, and ImageFolder has 3 \(cat, dog, owl\): the classes of"):
        getattr(make_trainer(), work)(task, datamodule=three_folders)


def outputs(make: Callable[[Tensor], Any]) -> InputModel:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor) -> Any:
            return make(images)

    return InputModel(Network())


LABELS, MASKS = torch.tensor([0, 1]), torch.zeros(2, 32, 32, dtype=torch.uint8)
BOXES = [Boxes(torch.zeros(1, 4), torch.zeros(1).long())] * 2
LOGITS, MAPS = outputs(lambda x: torch.zeros(len(x), 3)), outputs(lambda x: torch.zeros(len(x), 3, 8, 8))


@pytest.mark.parametrize(
    ("task", "targets", "reason"),
    [
        (
            ClassificationTask(LOGITS, 3),
            MASKS,
            r"needs one class per image, .*have torch.uint8 \(2, 32, 32\) per batch",
        ),
        (ClassificationTask(LOGITS, 3), BOXES, "needs one class per image, .* have a list per batch"),
        (ClassificationTask(LOGITS, 3), torch.rand(2, 3), "needs one class per image, .* have torch.float32"),
        (ClassificationTask(MAPS, 3), LABELS, r"output has shape \(3, 8, 8\) per image"),
        (ClassificationTask(outputs(lambda x: (x, x)), 3), LABELS, "is a tuple, and classification needs logits"),
        (
            SegmentationTask(MAPS, 3),
            LABELS,
            r"needs masks with one class per pixel, and the data have \(2,\) per batch",
        ),
        (SegmentationTask(MAPS, 3), BOXES, "needs masks .* have a list per batch"),
        (SegmentationTask(LOGITS, 3), MASKS, r"output has shape \(2, 3\): segmentation needs logits"),
        (DetectionTask(LOGITS, 3, YoloBoxes()), LABELS, "needs boxes for each image, and the data have none"),
        (DetectionTask(LOGITS, 3, YoloBoxes()), BOXES, r"YoloBoxes reads .*, not \(2, 3\)"),
        (DetectionTask(MAPS, 3, YoloBoxes()), BOXES, r"YoloBoxes reads .*, not \(2, 3, 8, 8\)"),
        (DetectionTask(LOGITS, 3, TorchvisionBoxes()), BOXES, "TorchvisionBoxes reads a list of dicts .* not Tensor"),
        (DetectionTask(outputs(lambda x: {"out": x}), 3, TorchvisionBoxes()), BOXES, "list of dicts .* not dict"),
    ],
)
def test_what_does_not_belong_together_is_told_in_a_test(task: Any, targets: Any, reason: str) -> None:
    task.log = task.log_dict = lambda *_, **__: None
    with pytest.raises(ValueError, match=reason):
        task.test_step((IMAGES, targets), 0)


def test_labels_are_looked_at_before_training(make_trainer: MakeTrainer, data: Digits) -> None:
    """On a GPU the loss itself would end the process."""

    class Shifted(Digits):
        num_classes = None  # type: ignore[assignment]

    task = ClassificationTask(InputModel(resnet8(num_classes=3)), 3)
    with pytest.raises(ValueError, match="an image has the label 9, but num_classes is 3"):
        make_trainer(limit_val_batches=0).fit(task, Shifted(batch_size=1200))


def test_a_detectors_training_takes_boxes() -> None:
    task = DetectorTrainingTask(faster_rcnn("resnet18", 3, min_size=32, max_size=32), 2)
    with pytest.raises(ValueError, match="needs boxes for each image, and the data have none"):
        task.training_step((list(IMAGES), torch.tensor([0, 1])), 0)  # type: ignore[arg-type]


def test_scores_of_a_student_are_of_its_classes() -> None:
    scores = ClassificationScores(3)
    with pytest.raises(ValueError, match=r"the student's output is \(5,\) per image, but num_classes is 3"):
        scores.update(torch.rand(2, 5), LABELS)
    with pytest.raises(ValueError, match="an image has the label 4, but num_classes is 3"):
        scores.update(torch.rand(2, 3), LABELS + 3)


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
@pytest.mark.parametrize("kind", ["obb", "seg", "pose", "cls"])
def test_heads_of_yolo_that_mean_something_else(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cut or whole; the angle of an untrained OBB head lies in [0, 1], so that values alone do not tell it."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    head: Any = pytest.importorskip("ultralytics.nn.modules.head")
    kinds = {"obb": head.OBB, "seg": head.Segment, "pose": head.Pose, "cls": head.Classify}
    network = nn.Sequential(nn.Identity(), kinds[kind](8, 3) if kind == "cls" else kinds[kind](nc=3, ch=(8, 8, 8)))
    for classes in (3, 4):
        with pytest.raises(ValueError, match=f"upright boxes, Detect, and this network ends in {kinds[kind].__name__}"):
            DetectionTask(InputModel(network), classes, YoloBoxes())
    DetectionTask(InputModel(nn.Sequential(head.Detect(nc=3, ch=(8, 8, 8)))), 3, YoloBoxes())


def test_scores_beyond_one_are_no_scores() -> None:
    raw = torch.rand(1, 4 + 3 + 1, 10)
    raw[:, -1] = torch.linspace(-0.7, 2.3, 10)  # angles
    with pytest.raises(ValueError, match=r"scores of classes lie in \[0, 1\], and in this output they go from -0.7 to"):
        YoloBoxes().decode(raw, 4)
    with pytest.raises(ValueError, match="but num_classes is 3; if it finds masks, joints or angles too"):
        YoloBoxes().decode(raw, 3)


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: ClassificationTask(InputModel(nn.Identity()), 0), 2),
        (lambda: ClassificationTask(InputModel(nn.Identity()), 1), 2),
        (lambda: DetectionTask(InputModel(nn.Identity()), 0, YoloBoxes()), 1),
        (lambda: DetectorTrainingTask(faster_rcnn("resnet18", 2), 0), 1),
        (lambda: ClassificationScores(0), 2),
        (lambda: DetectionScores(0), 1),
        (lambda: LabelledImages("nowhere", num_classes=0), 1),
        (lambda: YoloDetection("nowhere", num_classes=0), 1),
        (lambda: YoloObjects("nowhere", num_classes=-1), 1),
        (lambda: backbone("torchvision/resnet18", num_classes=0), 1),
        (lambda: backbone("timm/resnet10t", num_classes=0), 1),
    ],
)
def test_no_classes_are_refused(make: Callable[[], Any], least: int) -> None:
    with pytest.raises(ValueError, match=rf"num_classes must be at least {least}, got (0|1|-1): give that of"):
        make()
