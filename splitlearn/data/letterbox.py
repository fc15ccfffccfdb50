"""Images with boxes, brought to one size without changing their shape."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from splitlearn.data.decoding import decode_rgb
from splitlearn.data.errors import DataError
from splitlearn.outputs import Boxes

__all__ = ["BoxImages", "Labelled", "Letterbox", "letterbox"]

GREY = 114


@dataclass(frozen=True)
class Labelled:
    """An image file and what is on it.

    Attributes:
        file: the image.
        objects: their boxes, as shares of the image's width and height instead of pixels.
        masks: of each object, in COCO's notation; empty if they were not asked for.
        size: width and height of the image that the objects were drawn on; None if they are not known.
    """

    file: Path
    objects: Boxes
    masks: tuple[Any, ...] = ()
    size: tuple[int, int] | None = None

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image of another size than the objects were drawn on: their boxes would lie elsewhere.

        Raises:
            DataError: then.
        """
        if self.size is not None and self.size != (width, height):
            raise DataError(
                f"{self.file} has {width}×{height} pixels and its annotations are of {self.size[0]}×{self.size[1]}: "
                "take images and annotations from one data set, neither scaled nor turned"
            )


class BoxImages(Dataset[tuple[Tensor, Boxes]]):
    """Images with boxes, decoded and letterboxed whenever they are asked for.

    Args:
        labelled: the images and their objects.
        size: height and width that they are brought to.
    """

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
            DataError: a file is no image, is damaged, or has another size than its annotations say.
        """
        pairs = [self._load(self.labelled[index]) for index in indices]
        return torch.stack([image for image, _ in pairs]), [boxes for _, boxes in pairs]

    def _load(self, labelled: Labelled) -> tuple[Tensor, Boxes]:
        upright = decode_rgb(labelled.file)  # boxes are drawn on the image as it is shown
        labelled.check_size(*upright.size)
        pixels, xyxy = letterbox(upright, labelled.objects.xyxy, self.size)
        return pixels, replace(labelled.objects, xyxy=xyxy)


def letterbox(image: Image.Image, shares: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Scale an image up or down until it just fits, and fill what is left on two sides with grey.

    Args:
        image: RGB.
        shares: left, top, right and bottom of boxes, `(N, 4)`, as shares of the image's width and height.
        size: height and width of the result.

    Returns:
        uint8 `(3, H, W)` with the image in the middle, and the boxes in its pixels, float32 `(N, 4)`.

    Reference:
        The preprocessing of YOLO, in which grey is 114.
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
    """`letterbox` of images without boxes.

    Attributes:
        size: height and width of the result.
    """

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image, scaled and filled up."""
        shown: Image.Image = to_pil_image(letterbox(image, torch.empty(0, 4), self.size)[0])
        return shown
