"""The output of torchvision's detectors, as records."""

from __future__ import annotations

import pytest
import torch

from splitlearn.models import TorchvisionBoxes

COCO_UNUSED = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]


def output(labels: list[int]) -> dict[str, torch.Tensor]:
    count = len(labels)
    scores = torch.linspace(0.9, 0.1, count)
    return {"boxes": torch.rand(count, 4), "labels": torch.tensor(labels).long(), "scores": scores}


def test_the_background_is_no_class() -> None:
    found = output([1, 3, 2])
    (boxes,) = TorchvisionBoxes().decode([found], 3)
    assert boxes.labels.tolist() == [0, 2, 1]
    assert torch.equal(boxes.xyxy, found["boxes"])
    assert boxes.scores is not None
    assert torch.equal(boxes.scores, found["scores"])
    assert boxes.masks is None


def test_coco_has_80_classes_without_gaps() -> None:
    labels = [label for label in range(1, 91) if label not in COCO_UNUSED]
    (boxes,) = TorchvisionBoxes(COCO_UNUSED).decode([output([*labels, 12, 83])], 80)
    assert boxes.labels.tolist() == list(range(80))


def test_masks_are_cut_at_the_threshold() -> None:
    chances = torch.tensor([[0.2, 0.6], [0.5, 0.9]])[None, None].repeat(2, 1, 1, 1)
    (boxes,) = TorchvisionBoxes([2]).decode([output([2, 1]) | {"masks": chances}], 1)
    assert boxes.masks is not None
    assert boxes.masks.tolist() == [[[False, True], [False, True]]]
    (empty,) = TorchvisionBoxes().decode([output([]) | {"masks": torch.zeros(0, 1, 2, 2)}], 1)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 2, 2)
    assert len(empty) == 0


def test_wrong_output_and_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="class 4, but num_classes is 4"):
        TorchvisionBoxes().decode([output([5])], 4)
    with pytest.raises(ValueError, match="not Tensor"):
        TorchvisionBoxes().decode(torch.zeros(1, 84, 10), 4)
    with pytest.raises(ValueError, match="begin with 1"):
        TorchvisionBoxes([0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        TorchvisionBoxes(threshold=1)
