"""COCO's scores of boxes and masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from splitlearn.metrics import ObjectScores
from splitlearn.outputs import Boxes


def objects(*masks: Tensor, scores: bool = False) -> Boxes:
    """Objects of class 0 with the boxes that their masks fill, on an image of 40 × 60."""
    pixels = torch.stack(masks) if masks else torch.zeros(0, 40, 60, dtype=torch.bool)
    places = [mask.nonzero() for mask in pixels]
    xyxy = [[*p.min(0).values.flip(0).tolist(), *(p.max(0).values.flip(0) + 1).tolist()] for p in places]
    labels = torch.zeros(len(masks), dtype=torch.long)
    chances = torch.linspace(0.9, 0.5, len(masks)) if scores else None
    return Boxes(torch.tensor(xyxy, dtype=torch.float32).reshape(-1, 4), labels, chances, masks=pixels)


def rectangle(top: int, left: int, bottom: int, right: int) -> Tensor:
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def triangle(mask: Tensor) -> Tensor:
    """The lower left half of a mask: its box is the same, its pixels are half as many."""
    return mask & torch.ones(40, 60, dtype=torch.bool).tril(0)


SQUARE, OTHER = rectangle(0, 0, 30, 30), rectangle(5, 32, 35, 58)


def scores(found: Boxes, there: Boxes, masks: bool = True) -> dict[str, float]:
    metric = ObjectScores(masks)
    metric.update([found], [there])
    return {name: round(float(value), 3) for name, value in metric.compute().items()}


def test_what_is_found_exactly_scores_one() -> None:
    there = objects(SQUARE, OTHER)
    found = objects(SQUARE, OTHER, scores=True)
    assert scores(found, there) == {"map": 1, "map_50": 1, "map_masks": 1, "map_masks_50": 1}
    assert scores(found, there, masks=False) == {"map": 1, "map_50": 1}


def test_masks_are_scored_by_their_own_pixels() -> None:
    """Half of the pixels and a few: the IoU lies above 0.5 and below 0.55, so one of ten thresholds is met."""
    found = scores(objects(triangle(SQUARE), scores=True), objects(SQUARE))
    assert (found["map"], found["map_masks"], found["map_masks_50"]) == (1, 0.1, 1)


def test_what_is_missed_costs() -> None:
    found = scores(objects(SQUARE, scores=True), objects(SQUARE, OTHER))
    assert 0.45 < found["map"] == found["map_masks"] < 0.55


def test_images_without_objects_count_false_finds() -> None:
    metric = ObjectScores(masks=True)
    metric.update([objects(OTHER, scores=True), objects(SQUARE, scores=True)], [objects(), objects(SQUARE)])
    assert 0 < float(metric.compute()["map"]) < 1
    assert scores(objects(scores=True), objects()) == dict.fromkeys(("map", "map_50", "map_masks", "map_masks_50"), -1)


def test_images_add_up_over_batches() -> None:
    found, there = objects(SQUARE, scores=True), objects(SQUARE, OTHER)
    one, two = ObjectScores(True), ObjectScores(True)
    one.update([found, found], [there, objects(SQUARE)])
    two.update([found], [there])
    two.update([found], [objects(SQUARE)])
    assert one.compute() == two.compute()
    two.reset()
    two.update([found], [objects(SQUARE)])
    assert float(two.compute()["map_masks"]) == pytest.approx(1)


def test_a_side_without_masks_is_named() -> None:
    there, found = objects(SQUARE), objects(SQUARE, scores=True)
    with pytest.raises(ValueError, match="the detector has only boxes"):
        scores(replace(found, masks=None), there)
    with pytest.raises(ValueError, match="the data set has only boxes"):
        scores(found, replace(there, masks=None))
