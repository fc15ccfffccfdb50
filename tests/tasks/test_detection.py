"""Detectors are measured through bytes, from files to mean average precision."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from splitlearn.codecs import Huffman, RunLength
from splitlearn.data import YoloDetection
from splitlearn.models import BoxDecoder, InputModel, SplitModel, YoloBoxes, backbone, split
from splitlearn.outputs import Boxes
from splitlearn.quantizers import MinMax
from splitlearn.tasks import DetectionTask
from tests.tasks.conftest import MakeTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.* have no label file")

CLASSES = 3


class Brightest(BoxDecoder):
    """Finds one object: the pixels of a feature map that are bright in one channel, which is its class."""

    def decode(self, output: Tensor, num_classes: int) -> list[Boxes]:
        return [self._decode(image) for image in output]

    def _decode(self, image: Tensor) -> Boxes:
        label, rows, columns = torch.where(image > 0.8)
        if not len(label):
            return Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Boxes(torch.tensor([box]).float(), label[:1], torch.tensor([0.9]))


def same_image() -> nn.Module:
    """A network that gives its input back, by way of a layer to cut at."""
    layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity())
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(3)[:, :, None, None])  # type: ignore[operator]
        layers[0].bias.zero_()  # type: ignore[operator]
    return layers


def model() -> SplitModel:
    return SplitModel(split(same_image(), "0", (3, 64, 64)), MinMax(8), RunLength())


@pytest.fixture
def rectangles(tmp_path: Path) -> Path:
    """Six wide images with a rectangle in a pure colour each, its class; the last is black."""
    for folder in ("images/val2017", "labels/val2017", "images/train2017"):
        (tmp_path / folder).mkdir(parents=True)
    for n in range(6):
        image = Image.new("RGB", (128, 64))
        left, top, right, bottom = 10 * n, 4 * n, 30 + 16 * n, 40 + 4 * n
        if n < 5:
            colour = tuple(255 * (n % CLASSES == channel) for channel in range(3))
            ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
            shares = [(left + right) / 256, (top + bottom) / 128, (right - left) / 128, (bottom - top) / 64]
            label = tmp_path / f"labels/val2017/{n}.txt"
            label.write_text(f"{n % CLASSES} {' '.join(map(str, shares))}\n")
        image.save(tmp_path / f"images/val2017/{n}.png")
    return tmp_path


def data(root: Path, num_classes: int = CLASSES) -> YoloDetection:
    return YoloDetection(root, 128, num_classes=num_classes, batch_size=4)


def test_a_detector_that_errs_nowhere_scores_one(make_trainer: MakeTrainer, rectangles: Path) -> None:
    task = DetectionTask(model(), CLASSES, Brightest())
    (logged,) = make_trainer().test(task, data(rectangles), verbose=False)
    assert logged["test/map"] == pytest.approx(1)
    assert logged["test/map_50"] == pytest.approx(1)
    sizes = []
    module = data(rectangles)
    module.setup("test")
    for batch in module.test_dataloader():
        sizes += [len(p) for p in task.model.compress(module.on_after_batch_transfer(batch, 0)[0])]
    assert len(sizes) == 6
    assert logged["test/bytes_per_image"] == pytest.approx(sum(sizes) / 6)
    assert logged["test/bits_per_pixel"] == pytest.approx(8 * sum(sizes) / 6 / 128 / 128)
    assert logged["test/table_bytes"] == 0


def test_boxes_are_those_of_single_precision(make_trainer: MakeTrainer, rectangles: Path) -> None:
    class Seen(Brightest):
        """Notes the outputs that boxes are made of."""

        def __init__(self) -> None:
            self.outputs: list[Tensor] = []

        def decode(self, output: Tensor, num_classes: int) -> list[Boxes]:
            self.outputs.append(output)
            return super().decode(output, num_classes)

    outputs = []
    for precision in ("bf16-mixed", "32-true"):
        seen = Seen()
        net = split(nn.Sequential(same_image(), same_image()), "0", (3, 64, 64))
        task = DetectionTask(SplitModel(net, MinMax(8), RunLength()), CLASSES, seen)
        trainer = make_trainer(precision=precision)
        trainer.test(task, data(rectangles), verbose=False)
        trainer.predict(task, data(rectangles))
        outputs.append(seen.outputs)
    assert len(outputs[0]) == 4
    for mixed, single in zip(*outputs, strict=True):
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, single)


def test_errors_cost(make_trainer: MakeTrainer, rectangles: Path) -> None:
    """Class 0 has two objects, the others may be right: one wrong label halves its precision at most."""
    file = rectangles / "labels/val2017/3.txt"
    file.write_text("0 0.1 0.9 0.05 0.05\n")  # elsewhere
    (logged,) = make_trainer().test(DetectionTask(model(), CLASSES, Brightest()), data(rectangles), verbose=False)
    assert 2 / 3 < logged["test/map"] < 0.9


def test_precision_starts_anew_with_each_test(make_trainer: MakeTrainer, rectangles: Path) -> None:
    task = DetectionTask(InputModel(same_image()), CLASSES, Brightest())
    first = make_trainer().test(task, data(rectangles), verbose=False)
    for file in (rectangles / "labels/val2017").iterdir():
        file.write_text("2 0.9 0.9 0.01 0.01\n")
    second = make_trainer().test(task, data(rectangles), verbose=False)
    assert first[0]["test/map"] == pytest.approx(1)
    assert second[0]["test/map"] == pytest.approx(0)
    assert "test/table_bytes" not in first[0]


def test_what_is_found_in_a_crowd_is_no_error(make_trainer: MakeTrainer) -> None:
    task = DetectionTask(InputModel(same_image()), CLASSES, Brightest())
    there = Boxes(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]))
    found = Boxes(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), torch.tensor([0.5]))
    astray = Boxes(torch.tensor([[20.0, 20, 28, 28]]), torch.tensor([0]), torch.tensor([0.9]))
    crowd = Boxes(torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([0]), crowd=torch.tensor([True]))
    assert precision(task, [found, astray], [there, crowd]) == pytest.approx(1)
    assert precision(task, [found, astray], [there, Boxes(torch.zeros(0, 4), torch.zeros(0).long())]) < 0.6


def precision(task: DetectionTask, found: list[Boxes], there: list[Boxes]) -> float:
    """Mean average precision as `test_step` and `on_test_epoch_end` have it."""
    logged: dict[str, Any] = {}

    class Given(BoxDecoder):
        def decode(self, output: Any, num_classes: int) -> list[Boxes]:
            return found

    task.detector = Given()
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.log_dict = logged.update  # type: ignore[method-assign, assignment]
    task.test_step((torch.rand(len(there), 3, 64, 64), there), 0)
    task.on_test_epoch_end()
    return float(logged["test/map"])


def test_predictions_come_from_payloads_and_make_a_table(make_trainer: MakeTrainer, rectangles: Path) -> None:
    task = DetectionTask(model(), CLASSES, Brightest())
    predicted = make_trainer().predict(task, data(rectangles))
    assert predicted is not None
    assert [len(batch) for batch in predicted] == [4, 2]
    head, *rows = task.prediction_table(predicted, ("red", "green", "blue"))
    assert head == ["image", "class", "name", "score", "left", "top", "right", "bottom"]
    assert [row[:4] for row in rows] == [[n, n % 3, ["red", "green", "blue"][n % 3], "0.9000"] for n in range(5)]
    assert rows[1][4:] == ["10.00", "36.00", "46.00", "76.00"]  # 32 pixels of grey above
    assert task.prediction_table(predicted, None)[1][2] == ""
    images = torch.rand(2, 3, 64, 64)
    assert len(task(images)) == 2


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_training_is_refused_before_any_data_are_read(make_trainer: MakeTrainer, command: str) -> None:
    task = DetectionTask(model(), CLASSES, Brightest())
    with pytest.raises(ValueError, match="only measures a trained detector: run `test`"):
        getattr(make_trainer(), command)(task, datamodule=YoloDetection("nowhere"))


def test_classes_that_do_not_match_are_told(make_trainer: MakeTrainer, rectangles: Path) -> None:
    with pytest.raises(ValueError, match=r"num_classes is 2, and YoloDetection has 3 \(0, 1, 2\)"):
        make_trainer().test(DetectionTask(model(), 2, Brightest()), data(rectangles), verbose=False)
    task = DetectionTask(model(), 2, Brightest())
    for label, message in (
        (2, "has an object of class 2, but num_classes is 2"),
        (-1, "class -1: classes begin with 0"),
    ):
        there = Boxes(torch.zeros(1, 4), torch.tensor([label]))
        with pytest.raises(ValueError, match=message):
            task.test_step((torch.rand(1, 3, 64, 64), [there]), 0)
    network = nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2))
    with pytest.raises(ValueError, match="tells 3 classes apart, but num_classes is 5"):
        make_trainer().test(DetectionTask(InputModel(network), 5, YoloBoxes()), data(rectangles, 5), verbose=False)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'splitlearn\[detection\]'"):
        DetectionTask(model(), CLASSES, Brightest())


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_yolo_on_a_few_real_images(shared_data: Path, tmp_path: Path, make_trainer: MakeTrainer) -> None:
    pytest.importorskip("ultralytics")
    with zipfile.ZipFile(shared_data / "coco256.zip") as archive:
        names = [n for n in archive.namelist() if n.startswith("images/val2017/") and n.endswith(".jpg")][:6]
        labels = [n.replace("images/", "labels/").replace(".jpg", ".txt") for n in names]
        archive.extractall(tmp_path, [*names, *(n for n in labels if n in archive.namelist())])
    network = backbone("ultralytics/yolov8n", str(shared_data / "weights/yolov8n_coco_fp16.safetensors"))
    images = YoloDetection(tmp_path, 320, batch_size=3)
    net = split(network, "model.4", (3, 320, 320))
    models = InputModel(network), SplitModel(net, MinMax(8), Huffman()), SplitModel(net, MinMax(4), RunLength())
    logged = [make_trainer().test(DetectionTask(m, 80, YoloBoxes()), images, verbose=False)[0] for m in models]
    whole, eight_bits, four_bits = logged
    assert whole["test/map_50"] > 0.4
    assert eight_bits["test/map"] == pytest.approx(whole["test/map"], abs=0.05)
    assert four_bits["test/map"] == pytest.approx(whole["test/map"], abs=0.15)
    assert four_bits["test/bytes_per_image"] < 0.2 * 4 * 64 * 40 * 40 < whole["test/bytes_per_image"]
