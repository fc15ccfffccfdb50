"""Sets of labelled images, in memory or in files, as batches of uint8."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from splitlearn.data.checks import check_sizes, pixels_of, stacked, tried
from splitlearn.data.finding import find_images, listed_suffixes
from splitlearn.decoding import DataError, decode_rgb

__all__ = [
    "CentreCrop",
    "DataError",
    "FileImages",
    "ImageSet",
    "TensorImages",
    "check_crop",
    "random_part",
    "read_photos",
]

View: TypeAlias = Callable[[Image.Image], Image.Image]


class ImageSet(Dataset[tuple[Tensor, Tensor]]):
    """Images of one shape; `labels` are int64 class indices, `(N,)`, or empty, `(N, 0)`, if there are none."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch: uint8 images `(B, 3, H, W)` and int64 labels `(B,)`. Torch's loader calls this."""
        raise NotImplementedError


class TensorImages(ImageSet):
    """Images held in memory, uint8 `(N, 3, H, W)`, with int64 labels `(N,)` and their files, if any."""

    def __init__(self, images: Tensor, labels: Tensor, files: Sequence[Path] | None = None) -> None:
        self.images = images
        self.labels = labels
        self.files = files

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch: uint8 images `(B, 3, H, W)` and int64 labels `(B,)`."""
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


class FileImages(ImageSet):
    """Images decoded at each use.

    Args:
        files: paths of the images.
        labels: class index of each image; an empty tuple for each without labels.
        view: brings a decoded RGB image to the common size; may be random.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int | tuple[()]], view: View) -> None:
        self.files = files
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.view = view

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch: uint8 images `(B, 3, H, W)` and int64 labels `(B,)`.

        Raises:
            DataError: a file is no image or is damaged, or the view returns images of several sizes.
        """
        images = stacked([self._decode(self.files[index]) for index in indices], self.view)
        return images, self.labels[torch.as_tensor(indices)]

    def in_memory(self) -> TensorImages:
        """Decode all images once, with one draw of a random view for each; raises DataError if a file is damaged."""
        first = self._decode(self.files[0])
        images = torch.empty((len(self), *first.shape), dtype=torch.uint8)
        steps = track(range(len(self)), f"Decoding {len(self)} images", transient=True)
        for index in steps:
            image = self._decode(self.files[index])
            check_sizes([first, image], self.view)
            images[index] = image
        return TensorImages(images, self.labels, self.files)

    def _decode(self, file: Path) -> Tensor:
        decoded = decode_rgb(file)
        return pixels_of(tried(self.view, decoded), self.view, decoded)


def read_photos(folder: Path, view: View, count: int) -> Tensor:
    """Return some images of a folder and its sub-folders, evenly spaced in the sorted list of files, without labels.

    Args:
        folder: searched to any depth; hidden files are ignored, and other files that are no images with a warning.
        view: brings images to one size.
        count: largest number of images.

    Returns:
        float32 `(B, 3, H, W)` in [0, 1].

    Raises:
        DataError: there is no such folder or no image in it, or one is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name one that contains images")
    found = find_images(folder)
    if not found:
        raise DataError(f"{folder} holds no images ({listed_suffixes()}): name a folder that does")
    count = min(count, len(found))
    chosen = [found[number * len(found) // count] for number in range(count)]
    return FileImages(chosen, [0] * count, view).in_memory().images / 255


class CentreCrop:
    """Bring the shorter side of an image to `resize`, by default `size`, then crop a square of `size` at the centre."""

    def __init__(self, size: int, resize: int | None = None) -> None:
        shorter_side = size if resize is None else resize
        if not 1 <= size <= shorter_side:
            raise ValueError(f"image_size must be at least 1 and resize at least image_size, got {size} and {resize}")
        self.size = size
        self.shorter_side = shorter_side
        self._steps = v2.Compose([v2.Resize(shorter_side), v2.CenterCrop(size)])

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the cropped image; an image that already has the size is not changed."""
        if image.size == (self.size, self.size) and self.size == self.shorter_side:
            return image
        cropped: Image.Image = self._steps(image)
        return cropped


def check_crop(smallest: float) -> None:
    """Raise ValueError if the smallest share of an image that is to be shown is not above 0 and at most 1."""
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest_crop lies above 0 and is at most 1, got {smallest}")


def random_part(size: int, smallest: float) -> View:
    """Return the view of a random part of at least the `smallest` share of an image, often mirrored, as a square."""
    view: View = v2.Compose([v2.RandomResizedCrop(size, scale=(smallest, 1)), v2.RandomHorizontalFlip()])
    return view
