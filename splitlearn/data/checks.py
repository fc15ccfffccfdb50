"""Checks and conversions of images, boxes and masks that views and transforms of users return."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import convert_bounding_box_format, pil_to_tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from splitlearn.decoding import DataError
from splitlearn.outputs import BEYOND, Boxes
from splitlearn.resource_errors import brief, raised_as

__all__ = ["batch_of", "boxes_of", "check_sizes", "floats_of", "masks_of", "pixels_of", "shipped", "stacked", "tried"]

DARK = 16
"""Largest value of a dark image, whose range is unknown."""
LOOKED_AT = 16
"""Number of batches per epoch whose values are checked on a GPU."""
BLACK = 1.5 / 255
"""Largest value of a float image that is black, or was divided by 255 twice."""
NO_CROWD, CROWD = -1000, -2000
"""Marks of crowds in labels `(N, 2)`: a transform that changes all labels alike is detected."""
SIDES = {BoundingBoxFormat.XYXY, BoundingBoxFormat.XYWH, BoundingBoxFormat.CXCYWH}


def tried(act: Callable[..., Any], *given: Any) -> Any:
    """Call a view or transform and return its result; raises DataError, with its name, if it fails."""

    def told(error: Exception) -> DataError:
        return DataError(
            f"{_name(act)} fails on {' and '.join(map(_form, given))} ({type(error).__name__}: {brief(error)}): "
            "correct it, or use a transform of torchvision's v2"
        )

    with raised_as(told, but=DataError):  # code that a user chose may raise anything
        return act(*given)


def pixels_of(image: Any, act: Any, before: Tensor | Image.Image) -> Tensor:
    """Return as uint8 `(3, H, W)` the image that `act`, a view or transform, has made from `before`.

    It may be uint8, or floats in [0, 1], `(3, H, W)` or grey `(1, H, W)`; or a PIL image of 8-bit grey or RGB. Raises
    DataError if it has another form.
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("1", "L", "RGB"):
            raise DataError(f"{_name(act)} returns a PIL image of the mode {image.mode}: let it return L or RGB")
        made: Tensor = pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))
        return made
    _check_form(image, act, 3, "(3, H, W)")
    plain: Tensor = image.as_subclass(Tensor)
    if plain.is_floating_point():
        _check_range(plain, act)
        told = _divided(act)
        plain = (plain.float().clamp(0, 1) * 255).round().to(torch.uint8)
    else:
        told = _unscaled(act, "integers of 0 and 1")
    if plain.max() <= 1 and np.asarray(before).max() > DARK:  # dark parts of an image are plausible
        rank_zero_warn(told)
    return plain.expand(3, -1, -1) if plain.shape[0] == 1 else plain


def floats_of(images: Any, act: Any, before: Tensor, is_looked_at: bool = True, was_bright: bool = False) -> Tensor:
    """Return as float32 `(B, C, H, W)` in about [0, 1] the batch that a `train_transform` has returned.

    Args:
        images: the batch, floats of about [0, 1] or uint8; one channel becomes three.
        act: the transform.
        before: the transform's input, which it may have changed in place.
        is_looked_at: whether values are checked, which on a GPU waits for all pending computations.
        was_bright: whether the input had bright pixels; a nearly black result is then refused or causes a warning.

    Raises:
        DataError: the batch has another form.
    """
    _check_form(images, act, 4, "(B, 3, H, W)")
    plain: Tensor = images.as_subclass(Tensor)
    if len(plain) != len(before):
        raise DataError(f"{_name(act)} returns {len(plain)} images for {len(before)}: let it keep their number")
    if is_looked_at:
        if plain.is_floating_point():
            _check_range(plain, act)
            if was_bright and 0 < plain.max() < BLACK:
                raise DataError(_divided(act))
        elif was_bright and plain.max() <= 1:
            rank_zero_warn(_unscaled(act, "integers of 0 and 1"))
    plain = plain.float() if plain.is_floating_point() else plain.float() / 255
    return plain.expand(-1, before.shape[1], -1, -1) if plain.shape[1] == 1 else plain


def boxes_of(target: Any, pixels: Tensor, crowds: bool, act: Any) -> Boxes:
    """Return the objects in the dict of boxes, labels and masks that a transform has returned.

    Args:
        target: the dict.
        pixels: the image that the transform has returned, `(3, H, W)`.
        crowds: whether labels are `(N, 2)`: class, and `CROWD` or `NO_CROWD`.
        act: the transform.

    Raises:
        DataError: boxes are no `BoundingBoxes` of this image with four sides, or labels do not belong to them.
    """
    for name in ("boxes", "labels"):
        if not isinstance(target, dict) or not isinstance(target.get(name), Tensor):
            raise DataError(f"{_name(act)} returns no {name}: let it return the image and the dict that it was given")
    labels = target["labels"].as_subclass(Tensor)
    if labels.is_floating_point() or labels.shape[1:] != ((2,) if crowds else ()):
        form = "(N, 2): class and crowd mark" if crowds else "(N,)"
        raise DataError(f"{_name(act)} returns labels {_form(labels)}: let it return them as integers {form}")
    boxes = _xyxy(target["boxes"], pixels, act)
    if len(boxes) != len(labels):
        raise DataError(
            f"{_name(act)} returns {len(boxes)} boxes and {len(labels)} labels: let it remove both, as "
            "v2.SanitizeBoundingBoxes does"
        )
    if not crowds:
        return Boxes(boxes, labels.long())
    labels, crowd = labels.long().unbind(1)
    if not ((crowd == CROWD) | (crowd == NO_CROWD)).all():
        raise DataError(
            f"{_name(act)} changes the second column of the labels, which marks crowds: let it change only the first"
        )
    return Boxes(boxes, labels, crowd=crowd == CROWD)


def masks_of(target: Any, pixels: Tensor, count: int, act: Any) -> Tensor:
    """Return the masks of objects, bool `(N, H, W)`, in the dict that a transform has returned.

    Raises DataError if their number is not that of the boxes, or their size not that of the image.
    """
    masks = target.get("masks")
    expected = (count, *pixels.shape[1:])
    if not isinstance(masks, Tensor) or tuple(masks.shape) != expected:
        raise DataError(
            f"{_name(act)} returns masks {_form(masks)}, but image and boxes require {expected}: let it change all of "
            "them, as torchvision's v2 does"
        )
    return masks.as_subclass(Tensor).bool()


def stacked(images: Sequence[Tensor], act: Any) -> Tensor:
    """Return images or masks as a batch; raises DataError if a view has given them several sizes."""
    check_sizes(images, act)
    return torch.stack(list(images))


def check_sizes(images: Sequence[Tensor], act: Any) -> None:
    """Refuse images or masks of several sizes with a DataError that names their view."""
    sizes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(sizes) > 1:
        raise DataError(f"{_name(act)} returns several sizes of images, {sizes[0]} and {sizes[1]}: let it return one")


def shipped(images: Any, data: object) -> Tensor:
    """Return images from a loader as float32 in [0, 1]; a user's own data set may give floats in place of uint8.

    Raises DataError if they have another form than `(…, 3, H, W)`.
    """
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        return images.to(torch.float32) / 255
    name = f"the data set of {type(data).__qualname__}"
    if not isinstance(images, Tensor) or not images.is_floating_point() or not images.numel():
        raise DataError(f"{name} returns {_form(images)}: let it return images as uint8, or floats in [0, 1]")
    _check_range(images, name)
    return images.float()


def batch_of(act: Callable[[Tensor], Any], images: Tensor, step: int = 0) -> Tensor:
    """Apply a `train_transform` to a batch; return float32 `(B, C, H, W)` in [0, 1].

    On a GPU, only values of the first `LOOKED_AT` batches are checked, by the index `step`. Raises DataError if the
    transform fails, or its result has another form.
    """
    is_looked_at = step < LOOKED_AT or images.device.type == "cpu"
    was_bright = is_looked_at and bool(images.max() * 255 > DARK)  # before the transform, which may change it in place
    return floats_of(tried(act, images), act, images, is_looked_at, was_bright)


def _check_form(image: Any, act: Any, dimensions: int, form: str) -> None:
    fits = isinstance(image, Tensor) and image.dim() == dimensions and image.shape[-3] in (1, 3) and image.numel()
    if not fits or not (image.is_floating_point() or image.dtype == torch.uint8):
        raise DataError(
            f"{_name(act)} returns {_form(image)}: let it return a tensor {form}, uint8 or floats in [0, 1]"
        )


def _check_range(image: Tensor, act: Any) -> None:
    least, most = torch.stack(torch.aminmax(image)).tolist()  # one wait for a GPU, not two
    if not math.isfinite(least) or not math.isfinite(most):
        raise DataError(f"{_name(act)} returns values that are NaN or infinite: correct it")
    if not -BEYOND <= least <= most <= 1 + BEYOND:
        if least >= 0 and 1 + BEYOND < most <= 255:
            raise DataError(_unscaled(act, f"floats up to {most:.4g}"))
        raise DataError(
            f"{_name(act)} returns values from {least:.3g} to {most:.3g}, but images lie in [0, 1]: leave "
            "normalization to the model's `normalize`"
        )


def _xyxy(boxes: Tensor, pixels: Tensor, act: Any) -> Tensor:
    if not isinstance(boxes, BoundingBoxes):
        raise DataError(
            f"{_name(act)} returns boxes as a plain tensor of unknown format: leave v2.ToPureTensor out, and wrap your "
            "own boxes into BoundingBoxes"
        )
    if boxes.format not in SIDES:
        raise DataError(f"{_name(act)} returns boxes as {boxes.format.name}: let it return XYXY, XYWH or CXCYWH")
    size = tuple(boxes.canvas_size)
    if size != tuple(pixels.shape[1:]):
        raise DataError(
            f"{_name(act)} returns an image {tuple(pixels.shape[1:])} but boxes for an image {size}: let it change "
            "both, as torchvision's v2 does"
        )
    plain: Tensor = boxes.as_subclass(Tensor).float()
    if not plain.isfinite().all():
        raise DataError(f"{_name(act)} returns boxes that hold NaN or infinity: correct it")
    converted: Tensor = convert_bounding_box_format(plain, boxes.format, BoundingBoxFormat.XYXY)
    if (converted[:, 2:] < converted[:, :2]).any():  # clipping would silently remove them
        raise DataError(
            f"{_name(act)} returns boxes as {boxes.format.name} of negative width or height: correct the boxes or "
            "their format"
        )
    return converted


def _unscaled(act: Any, found: str) -> str:
    return (
        f"{_name(act)} returns {found}, so it has changed the type but not the range: use "
        "v2.ToDtype(…, scale=True), or do not change the type"
    )


def _divided(act: Any) -> str:
    return (
        f"{_name(act)} makes bright images nearly black, like a division by 255: leave it out if images are already in "
        "[0, 1]"
    )


def _name(act: Any) -> str:
    if isinstance(act, str):
        return act
    return f"the transform {getattr(act, '__qualname__', type(act).__qualname__)}"


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"a {type(value).__name__}"
