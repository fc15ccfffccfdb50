"""Images with boxes, resized to one size with their aspect ratio kept (letterbox)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from splitlearn.decoding import DataError, decode_rgb
from splitlearn.outputs import Boxes

__all__ = ["BoxImages", "Labelled", "Letterbox", "letterbox"]

GREY = 114


@dataclass(frozen=True)
class Labelled:
    """An image file and its objects.

    Attributes:
        file: the image.
        objects: boxes as shares of the image's width and height instead of pixels.
        masks: mask of each object in COCO's notation; empty unless requested.
        size: width and height of the annotated image; None if unknown.
    """

    file: Path
    objects: Boxes
    masks: tuple[Any, ...] = ()
    size: tuple[int, int] | None = None

    def check_size(self, width: int, height: int) -> None:
        """Raise DataError if an image and its annotations have different sizes, since boxes would be misplaced."""
        if self.size is not None and self.size != (width, height):
            raise DataError(
                f"{self.file} has {width}×{height} pixels, but its annotations are for {self.size[0]}×{self.size[1]}: "
                "use images and annotations of one data set, neither scaled nor turned"
            )


class BoxImages(Dataset[tuple[Tensor, Boxes]]):
    """Images with boxes, decoded and letterboxed to `size`, height and width, at each use."""

    def __init__(self, labelled: Sequence[Labelled], size: tuple[int, int]) -> None:
        self.labelled = labelled
        self.size = size

    @property
    def files(self) -> list[Path]:
        """The image files."""
        return [labelled.file for labelled in self.labelled]

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> tuple[Tensor, Boxes]:
        images, boxes = self.__getitems__([index])
        return images[0], boxes[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, list[Boxes]]:
        """Return a batch: uint8 images `(B, 3, H, W)` and the boxes of each, in pixels. Torch's loader calls this.

        Raises:
            DataError: a file is no image, is damaged, or has another size than in its annotations.
        """
        pairs = [self._load(self.labelled[index]) for index in indices]
        return torch.stack([image for image, _ in pairs]), [boxes for _, boxes in pairs]

    def _load(self, labelled: Labelled) -> tuple[Tensor, Boxes]:
        upright = decode_rgb(labelled.file)  # boxes belong to the upright image
        labelled.check_size(*upright.size)
        pixels, xyxy = letterbox(upright, labelled.objects.xyxy, self.size)
        return pixels, replace(labelled.objects, xyxy=xyxy)


def letterbox(image: Image.Image, shares: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Scale an image to fit the size, and pad it with grey on two sides.

    Args:
        image: RGB.
        shares: left, top, right and bottom of boxes, `(N, 4)`, as shares of the image's width and height.
        size: height and width of the result.

    Returns:
        uint8 `(3, H, W)` with the image in the middle, and the boxes in pixels of this result, float32 `(N, 4)`.

    Reference:
        The preprocessing of YOLO, with grey 114.
    """
    height, width = size
    scale = min(width / image.width, height / image.height)
    wide, high = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (width - wide) // 2, (height - high) // 2
    if (wide, high) != image.size:
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    pixels = torch.full((3, height, width), GREY, dtype=torch.uint8)
    pixels[:, top : top + high, left : left + wide] = pil_to_tensor(image)
    placed = shares.double() * torch.tensor([wide, high, wide, high]) + torch.tensor([left, top, left, top])
    return pixels, placed.float()


@dataclass(frozen=True)
class Letterbox:
    """`letterbox` of images without boxes, to `size`, height and width."""

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image, scaled and padded."""
        shown: Image.Image = to_pil_image(letterbox(image, torch.empty(0, 4), self.size)[0])
        return shown
