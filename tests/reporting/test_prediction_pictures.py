"""Predictions on pictures: boxes and masks where they are, in colours that tell classes apart, and in words."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from splitlearn.outputs import Boxes
from splitlearn.reporting import Picture, caption_of, picture_of

Table = list[list[object]]
GREY = torch.full((3, 40, 80), 0.5)


def pixels(picture: Picture) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(picture.webp)).convert("RGB")).astype(np.int64)


def coloured(picture: Picture) -> NDArray[np.bool_]:
    """Where a picture of grey pixels is not grey."""
    found = pixels(picture)
    return np.asarray(found.max(2) - found.min(2) > 60)


def test_a_picture_has_one_size_whatever_the_image() -> None:
    assert pixels(picture_of(GREY, None, "", "")).shape == (160, 320, 3)
    assert pixels(picture_of(torch.zeros(1, 900, 600), None, "", "")).shape == (320, 213, 3)
    assert not coloured(picture_of(GREY, None, "", "")).any()


def test_boxes_lie_where_they_were_found() -> None:
    boxes = Boxes(
        torch.tensor([[10.0, 10, 30, 30], [50.0, 10, 70, 30]]), torch.tensor([1, 0]), scores=torch.tensor([0.9, 0.1])
    )
    marks = coloured(picture_of(GREY, boxes, "", "", ["cat", "dog"]))
    assert marks[40:121, 38:44].mean() > 0.3  # the left edge of the first, four times enlarged
    assert not marks[:, 180:].any()  # the second is too uncertain


def test_masks_are_coloured_but_for_the_background() -> None:
    mask = torch.zeros(20, 40, dtype=torch.uint8)
    mask[:, 20:30], mask[:, 30:] = 1, 255
    marks = coloured(picture_of(GREY, mask, "", ""))
    assert marks[:, 165:235].mean() > 0.95
    assert not marks[:, :155].any()
    assert not marks[:, 250:].any()
    objects = Boxes(
        torch.tensor([[0.0, 0, 80, 40]]), torch.tensor([3]), masks=(torch.arange(80) < 40).expand(1, 40, 80)
    )
    marks = coloured(picture_of(GREY, objects, "", ""))
    assert marks[20:140, 40:150].mean() > 0.9
    assert marks[20:140, 170:300].mean() < 0.1


def test_words() -> None:
    assert caption_of([["image", "class", "name"], [0, 3, "cat"]]) == "cat"
    assert caption_of([["image", "class", "name"], [0, 3, ""]]) == "3"
    assert caption_of([["image", "class", "name", "exit", "bytes"], [0, 3, "", "layer1", 0]]) == "3, exit layer1"
    masks: Table = [["image", "class", "name", "pixels"], [0, 0, "background", 10], [0, 15, "person", 40]]
    assert caption_of(masks) == "person, background"
    heading: list[object] = ["image", "class", "name", "score", "left", "top", "right", "bottom"]
    found: Table = [[0, 1, "cat", f"{score:.4f}", "0", "0", "1", "1"] for score in (0.9, 0.8, 0.1)]
    assert caption_of([heading, *found]) == "2 × cat"
    assert caption_of([heading]) == "no objects"
