"""Images of different sizes with the boxes and masks of their objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Mask
from torchvision.tv_tensors import Image as ImageTensor

from splitlearn.data.checks import CROWD, NO_CROWD, boxes_of, masks_of, pixels_of, tried
from splitlearn.data.letterbox import Labelled
from splitlearn.data.masks import read_ids
from splitlearn.decoding import DataError, decode_rgb, shown_shape
from splitlearn.outputs import Boxes
from splitlearn.resource_errors import raised_as

__all__ = ["Annotation", "IdMask", "ObjectImages", "Polygons", "Shares"]


class Annotation(ABC):
    """Annotation of an image, read before the image is decoded."""

    @abstractmethod
    def objects(self, width: int, height: int) -> Boxes:
        """Return the objects in pixels, for an image of this size; raises DataError if they belong to another size."""


@dataclass(frozen=True)
class Shares(Annotation):
    """Boxes as shares of the image's width and height."""

    labelled: Labelled

    def objects(self, width: int, height: int) -> Boxes:
        """Return the boxes in pixels; raises DataError if they belong to an image of another size."""
        self.labelled.check_size(width, height)
        shares = self.labelled.objects
        return replace(shares, xyxy=(shares.xyxy * torch.tensor([width, height, width, height])).float())


@dataclass(frozen=True)
class Polygons(Shares):
    """Boxes, and masks in COCO's forms: polygons or run-lengths."""

    def objects(self, width: int, height: int) -> Boxes:
        """Return boxes and masks in pixels.

        Raises:
            DataError: boxes and masks belong to an image of another size, or run-lengths are malformed.
            ImportError: faster-coco-eval, which reads COCO's masks, is not installed.
        """
        boxes = super().objects(width, height)
        masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, segmentation in zip(masks, self.labelled.masks, strict=True):
            mask.copy_(torch.from_numpy(_coco_mask(segmentation, self.labelled.file, width, height)))
        return replace(boxes, masks=masks)


@dataclass(frozen=True)
class IdMask(Annotation):
    """A mask file in which each pixel holds the number of its object, 0 for none; all objects have class 0."""

    file: Path

    def objects(self, width: int, height: int) -> Boxes:
        """Return the masks and their bounding boxes.

        Raises:
            DataError: the file is damaged, holds colours or has another size.
        """
        ids = torch.from_numpy(read_ids(self.file).astype(np.int32))
        if tuple(ids.shape) != (height, width):
            raise DataError(
                f"{self.file} has {ids.shape[1]}×{ids.shape[0]} pixels and its image {width}×{height}: "
                "a mask must be as large as its image"
            )
        numbers: Tensor = torch.unique(ids)
        masks = ids == numbers[numbers > 0][:, None, None]
        xyxy = masks_to_boxes(masks).float()
        xyxy[:, 2:] += 1  # boxes refer to edges of pixels, not to centres
        return Boxes(xyxy, torch.zeros(len(masks), dtype=torch.int64), masks=masks)


class ObjectImages(Dataset[tuple[Tensor, Boxes]]):
    """Images of different sizes with objects, decoded at each use.

    Boxes are clipped to their image, and objects outside of it removed.

    Args:
        files: the images.
        annotations: annotation of each image.
        transform: transform of torchvision's v2, of an image and a dict of boxes, labels and masks; None changes
            nothing. The result is checked: floats in [0, 1], PIL images, grey and boxes in other formats are converted.
    """

    def __init__(
        self, files: Sequence[Path], annotations: Sequence[Annotation], transform: nn.Module | None = None
    ) -> None:
        self.files = files
        self.annotations = annotations
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Boxes]:
        images, objects = self.__getitems__([index])
        return images[0], objects[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[Tensor], list[Boxes]]:
        """Return a batch: uint8 images `(3, H, W)` and the objects of each, in pixels. Torch's loader calls this.

        Raises:
            DataError: a file is damaged, or an annotation does not belong to its image.
        """
        pairs = [self._load(index) for index in indices]
        return [image for image, _ in pairs], [objects for _, objects in pairs]

    def shape(self, index: int) -> tuple[int, int]:
        """Return height and width of an upright image, from its header; raises DataError if the file is no image."""
        return shown_shape(self.files[index])

    def _load(self, index: int) -> tuple[Tensor, Boxes]:
        image = decode_rgb(self.files[index])  # boxes belong to the upright image
        pixels, objects = pil_to_tensor(image), self.annotations[index].objects(image.width, image.height)
        objects = _clipped(objects, image.width, image.height)
        if self.transform is None:
            return pixels, objects
        pixels, objects = transformed(self.transform, pixels, objects)
        return pixels, _clipped(objects, pixels.shape[-1], pixels.shape[-2])  # a crop excludes objects


def transformed(transform: nn.Module, pixels: Tensor, objects: Boxes) -> tuple[Tensor, Boxes]:
    """Return an image and its objects after a transform of torchvision's v2.

    Args:
        transform: called with an image and a dict of boxes, labels and masks, if any. Labels are `(N,)`, or `(N, 2)`
            with marks of crowds, in one tensor so that transforms which remove objects handle both.
        pixels: uint8 `(3, H, W)`.
        objects: objects in pixels.

    Raises:
        DataError: the transform fails, or its result is no image with its objects.
    """
    size = (pixels.shape[-2], pixels.shape[-1])
    crowd = None if objects.crowd is None else torch.where(objects.crowd, CROWD, NO_CROWD)
    target: dict[str, Any] = {
        "boxes": BoundingBoxes(objects.xyxy, format=BoundingBoxFormat.XYXY, canvas_size=size),
        "labels": objects.labels if crowd is None else torch.stack([objects.labels, crowd], 1),
    }
    if objects.masks is not None:
        target["masks"] = Mask(objects.masks)
    made = tried(transform, ImageTensor(pixels), target)
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError(f"{type(transform).__name__} does not return an image and its objects: let it return both")
    image = pixels_of(made[0], transform, pixels)
    found = boxes_of(made[1], image, objects.crowd is not None, transform)
    if objects.masks is not None:
        found = replace(found, masks=masks_of(made[1], image, len(found), transform))
    return image, found


def _clipped(objects: Boxes, width: int, height: int) -> Boxes:
    limits = torch.tensor([width, height, width, height], dtype=objects.xyxy.dtype)
    xyxy = objects.xyxy.clamp(min=0).minimum(limits)
    return _chosen(replace(objects, xyxy=xyxy), (xyxy[:, 2:] > xyxy[:, :2]).all(1))


def _chosen(objects: Boxes, kept: Tensor) -> Boxes:
    optional = (None if t is None else t[kept] for t in (objects.scores, objects.crowd, objects.masks))
    return Boxes(objects.xyxy[kept], objects.labels[kept], *optional)


def _coco_mask(segmentation: Any, file: Path, width: int, height: int) -> NDArray[np.uint8]:
    try:
        from faster_coco_eval.core import mask as coco  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ImportError("masks of COCO need faster-coco-eval: pip install 'splitlearn[detection]'") from error
    if segmentation == []:
        return np.zeros((height, width), np.uint8)
    said = f"a segmentation of {file} is malformed ({str(segmentation)[:60]}): correct or remove it"
    with raised_as(lambda error: DataError(f"{said} ({error})")):  # compiled code raises anything
        if isinstance(segmentation, list):
            coded = coco.merge(coco.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], str | bytes):
            coded = segmentation
        else:
            coded = coco.frPyObjects(segmentation, height, width)
        mask: NDArray[np.uint8] = coco.decode(coded)
        return mask
