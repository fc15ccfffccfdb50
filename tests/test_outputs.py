from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from splitlearn.models import DepthwiseSeparable
from splitlearn.outputs import MOST_CLASSES, Boxes, SplitOutput, check_num_classes, init_args
from splitlearn.quantizers import MinMax, Step


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (Step(0.5, 64), {"step": 0.5, "levels": 64}),
        (MinMax(3), {"bits": 3}),
        (DepthwiseSeparable((4, 8, 8), 2, 1), {"shape": (4, 8, 8), "channels": 2, "stride": 1}),
    ],
)
def test_arguments_are_read_from_attributes(instance: object, expected: dict[str, Any]) -> None:
    assert init_args(instance) == expected
    assert init_args(type(instance)(**init_args(instance))) == expected


def test_an_argument_that_was_not_kept_is_named() -> None:
    class Forgetful:
        def __init__(self, kept: int, lost: int) -> None:
            self.kept = kept

    with pytest.raises(AttributeError, match="lost"):
        init_args(Forgetful(1, 2))


def test_variable_arguments_are_passed_over() -> None:
    class Open:
        def __init__(self, kept: int, *rest: int, **others: int) -> None:
            self.kept = kept

    assert init_args(Open(1, 2, x=3)) == {"kept": 1}


def test_records_do_not_change() -> None:
    output = SplitOutput(torch.zeros(1), (), (), ())
    with pytest.raises(FrozenInstanceError):
        output.prediction = 1  # type: ignore[misc]


def test_boxes_move_with_a_batch() -> None:
    """Lightning refuses other frozen dataclasses."""
    boxes = Boxes(torch.rand(2, 4), torch.tensor([0, 1]), torch.rand(2), torch.tensor([True, False]))
    images, (moved, bare) = move_data_to_device((torch.zeros(1), [boxes, Boxes(boxes.xyxy, boxes.labels)]), "meta")
    assert images.device.type == "meta"
    for tensor in (moved.xyxy, moved.labels, moved.scores, moved.crowd, bare.xyxy, bare.labels):
        assert tensor.device.type == "meta"
    assert bare.scores is None
    assert bare.crowd is None
    assert len(moved) == 2
    with pytest.raises(FrozenInstanceError):
        moved.labels = boxes.labels


def test_a_number_of_classes_is_bounded() -> None:
    check_num_classes(MOST_CLASSES)
    with pytest.raises(ValueError, match="num_classes must be at most 500,000, got 30,000,000: give that of the data"):
        check_num_classes(30_000_000)
