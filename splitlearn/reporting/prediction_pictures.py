"""Pictures of images with the predictions on them: boxes, masks, and captions for all others."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from splitlearn.outputs import Boxes

SIDE = 320  # pixels of the longer side
LEAST_SCORE, MOST_BOXES = 0.3, 20  # of what is drawn
SHOWN_CLASSES = 3  # in the caption of a mask
IGNORED = 255


@dataclass(frozen=True)
class Picture:
    """A picture with a caption.

    Attributes:
        webp: the picture as a WebP file.
        caption: the prediction in words.
        origin: where it comes from, such as the size of the payload and the name of the model.
    """

    webp: bytes
    caption: str
    origin: str


def picture_of(image: Tensor, answer: Any, caption: str, origin: str, names: Sequence[str] | None = None) -> Picture:
    """Return a picture of an image with a prediction, or the ground truth, on it.

    Args:
        image: `(1 or 3, H, W)` in [0, 1].
        answer: `Boxes`, a mask of classes `(h, w)`, or anything else, which is not drawn.
        caption: the answer in words.
        origin: where it comes from.
        names: name of each class, if known.
    """
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1)
    picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy().copy())
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
    if isinstance(answer, Boxes):
        picture = _with_boxes(picture, answer, scale, names)
    elif isinstance(answer, Tensor) and answer.ndim == 2:
        picture = _with_mask(picture, answer.cpu().numpy().astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "webp", quality=85)
    return Picture(file.getvalue(), caption, origin)


def caption_of(table: Sequence[Sequence[Any]]) -> str:
    """Return the prediction of one image in words, from the task's table of predictions, headings first."""
    heading, *rows = table
    found = [dict(zip(heading, row, strict=True)) for row in rows]
    if "pixels" in heading:
        found.sort(key=lambda row: -row["pixels"])
        return ", ".join(_class(row) for row in found[:SHOWN_CLASSES])
    if "score" in heading:
        names = [_class(row) for row in found if float(row["score"]) >= LEAST_SCORE]
        counts = [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]
        return ", ".join(counts) or "no objects"
    return ", ".join(f"{_class(row)}, exit {row['exit']}" if "exit" in row else _class(row) for row in found)


def _class(row: dict[str, Any]) -> str:
    return str(row.get("name") or row.get("class"))


def _with_boxes(picture: Image.Image, boxes: Boxes, scale: float, names: Sequence[str] | None) -> Image.Image:
    scores = torch.ones(len(boxes)) if boxes.scores is None else boxes.scores.cpu()
    chosen = [number for number in scores.argsort(descending=True).tolist() if scores[number] >= LEAST_SCORE]
    for number in chosen[:MOST_BOXES] if boxes.masks is not None else []:
        mask = boxes.masks[number].cpu().numpy().astype(np.uint8)  # type: ignore[index]
        picture = _with_mask(picture, mask * (1 + int(boxes.labels[number]) % 254))
    drawing = ImageDraw.Draw(picture)
    for number in reversed(chosen[:MOST_BOXES]):
        label = int(boxes.labels[number])
        left, top, right, bottom = (scale * value for value in boxes.xyxy[number].tolist())
        colour = _colour(label)
        drawing.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=2)
        text = names[label] if names and label < len(names) else str(label)
        drawing.text((left + 3, top + 1), text, fill=colour, stroke_width=2, stroke_fill=(255, 255, 255))
    return picture


def _with_mask(picture: Image.Image, mask: Any) -> Image.Image:
    """Return a picture with the colour of each class over its pixels, but for class 0 and pixels without a class."""
    classes = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    colours = np.array([_colour(number) for number in range(256)], np.uint8)
    share = np.where((classes == 0) | (classes == IGNORED), 0.0, 0.55)[..., None]
    return Image.fromarray(((1 - share) * np.asarray(picture) + share * colours[classes]).astype(np.uint8))


def _colour(number: int) -> tuple[int, int, int]:
    """Return a colour for a class; those of neighbouring classes differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.85, 0.85)
    return int(255 * red), int(255 * green), int(255 * blue)
