from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitlearn.models import YoloBoxes, backbone, crossing_shapes

pytestmark = pytest.mark.filterwarnings("default")  # ultralytics and what it imports


@pytest.fixture(autouse=True)
def settings_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))


def raw(batch: int = 2, classes: int = 5, boxes: int = 400) -> Tensor:
    """Crowded boxes with scores of which some are high."""
    centres, sides = 64 * torch.rand(batch, 2, boxes), 4 + 30 * torch.rand(batch, 2, boxes)
    return torch.cat([centres, sides, torch.rand(batch, classes, boxes) ** 8], 1)


@pytest.mark.parametrize("settings", [(0.001, 0.7, 300), (0.25, 0.45, 20), (0.9, 0.7, 300)])
def test_the_same_boxes_as_ultralytics(settings: tuple[float, float, int]) -> None:
    nms = pytest.importorskip("ultralytics.utils.nms").non_max_suppression
    output = raw()
    confidence, iou, most = settings
    expected = nms(output.clone(), confidence, iou, multi_label=True, max_det=most)
    found = YoloBoxes(confidence, iou, most).decode((output, {}), 5)
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.scores is not None
        assert 0 < len(ours) == len(theirs) <= most
        torch.testing.assert_close(ours.xyxy, theirs[:, :4])
        assert torch.equal(ours.scores, theirs[:, 4])
        assert torch.equal(ours.labels, theirs[:, 5].long())


def test_one_box_may_have_several_classes_but_each_only_once() -> None:
    output = torch.zeros(1, 6, 3)
    output[0, :4] = torch.tensor([[10.0, 10, 50], [10, 10, 50], [8, 9, 4], [8, 8, 4]])
    output[0, 4] = torch.tensor([0.9, 0.8, 0.1])
    output[0, 5] = torch.tensor([0.3, 0.2, 0.0])
    (found,) = YoloBoxes().decode(output, 2)
    assert found.labels.tolist() == [0, 1, 0]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9, 0.3, 0.1])
    assert found.xyxy[0].tolist() == [6, 6, 14, 14]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_nothing_found(value: float) -> None:
    (found,) = YoloBoxes().decode(torch.full((1, 7, 10), value), 3)
    assert found.xyxy.shape == (0, 4)
    assert len(found) == 0


def test_very_many_candidates_are_cut_down_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    output = raw(1)
    (expected,) = YoloBoxes(most=10).decode(output, 5)
    monkeypatch.setattr("splitlearn.models.networks.yolo.MOST_CANDIDATES", 100)
    (found,) = YoloBoxes(most=10).decode(output, 5)
    assert torch.equal(found.xyxy, expected.xyxy)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (torch.zeros(1, 9, 4), "tells 5 classes apart, but num_classes is 80"),
        (torch.zeros(1, 10), r"not \(1, 10\)"),
        (torch.zeros(1, 300, 6), "tells 296 classes apart"),
        ({"boxes": 1}, "not dict"),
        ((), "not tuple"),
    ],
)
def test_other_outputs_are_refused(output: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        YoloBoxes().decode(output, 80)


@pytest.mark.parametrize("arguments", [(-0.1, 0.7, 300), (0.1, 0.0, 300), (0.1, 0.7, 0)])
def test_impossible_arguments_are_refused(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="lie between 0 and 1"):
        YoloBoxes(*arguments)


@pytest.mark.slow
def test_sizes_of_carra_2023_table_2() -> None:
    """The paper's 96×60×80, 1800.0 kB, and what the other branch of the block needs."""
    pytest.importorskip("ultralytics")
    shapes = crossing_shapes(backbone("ultralytics/yolov5m").eval(), "model.4.m", torch.rand(1, 3, 480, 640))
    assert shapes == [(96, 60, 80), (192, 60, 80)]
    assert [4 * channels * height * width / 1024 for channels, height, width in shapes] == [1800.0, 3600.0]


def pooling(model: nn.Module) -> Any:
    (layer,) = [module for module in model.modules() if type(module).__name__ == "SPPF"]
    return layer


@pytest.mark.parametrize(("name", "activation"), [("yolov5n", nn.SiLU), ("yolov8n", nn.SiLU), ("yolo11n", nn.SiLU)])
def test_pooling_is_activated_as_in_training(
    name: str, activation: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where ultralytics builds it without, as some releases do."""
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    parse: Callable[..., Any] = tasks.parse_model

    def bare(*args: Any, **options: Any) -> Any:
        layers, save = parse(*args, **options)
        pooling(layers).cv1.act = nn.Identity()
        return layers, save

    monkeypatch.setattr(tasks, "parse_model", bare)
    assert isinstance(pooling(backbone(f"ultralytics/{name}", num_classes=3)).cv1.act, activation)


def test_pooling_of_newer_networks_stays_bare() -> None:
    pytest.importorskip("ultralytics.nn.tasks")
    try:
        model = backbone("ultralytics/yolo26n")
    except ValueError:
        pytest.skip("this ultralytics has no YOLO26")
    assert isinstance(pooling(model).cv1.act, nn.Identity)
