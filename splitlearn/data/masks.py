"""Masks with a class for every pixel: decoding, and functions (views) that prepare image and mask together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Mask

from splitlearn.data.checks import pixels_of, stacked, tried
from splitlearn.decoding import DataError, decode_rgb, opened, orientation, stored_as
from splitlearn.outputs import IGNORED
from splitlearn.resource_errors import raised_as

__all__ = ["Fitted", "IdTable", "Masked", "MaskedImages", "MaskedView", "crop_and_flip", "one_class_alone", "read_ids"]

MaskedView: TypeAlias = Callable[[Image.Image, Mask], tuple[Image.Image, Tensor]]

GREY = 128  # near the mean of photographs, so nearly 0 after usual normalization
IDS = 1 << 16  # number of values in one channel of a PNG file
UNKNOWN = -1
LOOKED_AT = 100  # number of masks that are checked before training
UPRIGHT = 1
SPREAD = {"L;2": 85, "L;4": 17}  # Pillow's factors for grey of two and four bits


@dataclass(frozen=True)
class Masked:
    """An image file and its mask file."""

    image: Path
    mask: Path


class IdTable:
    """Converts the ids in mask files to classes.

    Args:
        classes: id or ids of each class by its name; the order of the names numbers the classes.
        others: class of all other ids, such as the background, or 255 to ignore their pixels; None refuses masks with
            other ids.
        ignored: ids of pixels to ignore.

    Raises:
        ValueError: if an id is out of range or occurs twice, or there are too few or too many classes.
    """

    def __init__(
        self, classes: Mapping[str, int | Sequence[int]], others: int | None = None, ignored: Sequence[int] = (IGNORED,)
    ) -> None:
        if not 2 <= len(classes) <= IGNORED:
            raise ValueError(f"masks need 2 to {IGNORED} classes, got {len(classes)}")
        if others not in (None, IGNORED) and not 0 <= others < len(classes):
            raise ValueError(
                f"others must be a class, 0…{len(classes) - 1}, {IGNORED} to ignore them, or null; got {others}"
            )
        self.names = tuple(classes)
        self._table = np.full(IDS, UNKNOWN if others is None else others, np.int16)
        named: set[int] = set()
        ids_of = [[ids] if isinstance(ids, int) else list(ids) for ids in classes.values()]
        for label, ids in [*enumerate(ids_of), (IGNORED, list(ignored))]:
            for identity in ids:
                if not 0 <= identity < IDS or identity in named:
                    raise ValueError(f"ids of masks must lie in 0…{IDS - 1} and have one class each; got {identity}")
                named.add(identity)
                self._table[identity] = label

    def read(self, file: Path) -> NDArray[np.uint8]:
        """Return the class of each pixel in a mask file, `(H, W)`.

        Raises DataError if the file is damaged, holds colours, or has an id without class.
        """
        ids = read_ids(file)
        labels = self._table[ids]
        unknown = ids[labels == UNKNOWN]
        if unknown.size:
            raise DataError(
                f"{file} has the id {unknown.max()}, which has no class: name it in classes or ignored, or set others "
                "to a class for all such ids"
            )
        return labels.astype(np.uint8)


def read_ids(file: Path) -> NDArray[np.uint16]:
    """Return the ids in a mask file, `(H, W)`: a PNG with grey or a palette, whose colours are ignored.

    Grey of 1, 2, 4, 8 or 16 bits is read as stored. A mask belongs to the upright image. Raises DataError if the file
    is damaged, no PNG, holds colours or has an EXIF orientation.
    """
    damaged = raised_as(lambda error: DataError(f"cannot decode {file} as PNG, remove or replace it ({error})"))
    with damaged, opened(file, ("PNG",)) as image:
        raw_mode, mode = stored_as(image), image.mode
        ids, turned = np.array(image), orientation(image) != UPRIGHT
    if mode not in ("1", "L", "P", "I;16"):
        raise DataError(f"{file} holds colours ({mode}): save it with one channel, an id for each pixel")
    if turned:
        raise DataError(f"{file} has an EXIF orientation, but masks are read as stored: save it without EXIF")
    return ids.astype(np.uint16) // SPREAD.get(raw_mode, 1)


def one_class_alone(pairs: Sequence[Masked], table: IdTable) -> str:
    """Return a description of the masks if they show at most one class besides ignored pixels, else "".

    An example are masks with the ids 0 and 255, meant as two classes, where 255 is ignored: every prediction would
    count as right. At most 100 masks, evenly spaced, are checked, until two classes are found.

    Raises:
        DataError: as for `IdTable.read`.
    """
    count, white, found = min(LOOKED_AT, len(pairs)), False, set()
    for number in range(count):
        file = pairs[number * len(pairs) // count].mask
        white |= bool((read_ids(file) == IGNORED).any())  # other ids are ignored on purpose
        found |= {*np.unique(table.read(file)).tolist()}
        if len(found - {IGNORED}) > 1:
            return ""
    if not white or IGNORED not in found:
        return ""
    named = " and ".join(table.names[label] for label in found - {IGNORED}) or "no class"
    return (
        f"{pairs[0].mask.parent}: masks hold only {named} and ignored pixels: give the pixels of each class its id in "
        "`classes`, such as 0 and 1, not 0 and 255"
    )


class MaskedImages(Dataset[tuple[Tensor, Tensor]]):
    """Images and masks, with a table of their ids, decoded at each use; the view may be random."""

    def __init__(self, pairs: Sequence[Masked], table: IdTable, view: MaskedView) -> None:
        self.pairs = pairs
        self.table = table
        self.view = view

    @property
    def files(self) -> list[Path]:
        """The image files."""
        return [pair.image for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, masks = self.__getitems__([index])
        return images[0], masks[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch: uint8 images `(B, 3, H, W)` and uint8 classes `(B, H, W)`. Torch's loader calls this.

        Raises:
            DataError: a file is damaged, or a mask has another size than its image, or an id without class.
        """
        views = [self._load(self.pairs[index]) for index in indices]
        return stacked([image for image, _ in views], self.view), stacked([mask for _, mask in views], self.view)

    def _load(self, pair: Masked) -> tuple[Tensor, Tensor]:
        image = decode_rgb(pair.image)  # masks belong to the upright image
        labels = self.table.read(pair.mask)
        height, width = labels.shape
        if (width, height) != image.size:
            raise DataError(
                f"{pair.mask} has {width}×{height} pixels and {pair.image} {image.width}×{image.height}: "
                "a mask must be as large as its image"
            )
        return _looked_at(tried(self.view, image, Mask(torch.from_numpy(labels))), self.view, image)


def _looked_at(made: Any, view: MaskedView, image: Image.Image) -> tuple[Tensor, Tensor]:
    """Return image and mask of a view after a check, uint8 `(3, H, W)` and `(H, W)`."""
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError("a view of images and masks returns something else: let it return image and mask")
    pixels, mask = pixels_of(made[0], view, image), made[1]
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.shape != pixels.shape[1:]:
        raise DataError(
            f"a view returns an image {tuple(pixels.shape[1:])} without a mask of integers of that size: let it change "
            "both, as torchvision's v2 does"
        )
    return pixels, mask.as_subclass(Tensor).to(torch.uint8)


def crop_and_flip(height: int, width: int) -> MaskedView:
    """Return the view for training: a random crop of at least a quarter of an image, scaled and mirrored at random."""
    view: MaskedView = v2.Compose([v2.RandomResizedCrop((height, width), scale=(0.25, 1)), v2.RandomHorizontalFlip()])
    return view


@dataclass(frozen=True)
class Fitted:
    """View for evaluation: image and mask are scaled to fit, and padded on the right and below with grey and 255.

    Reference: Chen et al. 2017: the longer side has 513 pixels, the rest is padded.
    """

    height: int
    width: int

    def __call__(self, image: Image.Image, mask: Mask) -> tuple[Image.Image, Tensor]:
        """Return image and mask, scaled and padded."""
        height, width = self.height, self.width
        scale = min(height / image.height, width / image.width)
        size = [max(1, round(image.height * scale)), max(1, round(image.width * scale))]
        border = [0, 0, width - size[1], height - size[0]]
        # v2's own nearest neighbour of masks deviates from the image's grid by up to half a pixel
        labels = functional.resize_image(mask.as_subclass(Tensor)[None], size, InterpolationMode.NEAREST_EXACT)[0]
        if size != [image.height, image.width]:
            image = functional.resize(image, size, InterpolationMode.BILINEAR)
        padded: Image.Image = functional.pad(image, border, fill=GREY)
        return padded, functional.pad(Mask(labels), border, fill=IGNORED)

    def image(self, image: Image.Image) -> Image.Image:
        """Return an image, without a mask, scaled and padded."""
        return self(image, Mask(torch.zeros(image.height, image.width, dtype=torch.uint8)))[0]
