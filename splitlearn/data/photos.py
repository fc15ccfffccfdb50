"""Data modules of photographs without labels, from any folders."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from splitlearn.data.base import Batch, ImageDataModule, id_of_list, split_indices
from splitlearn.data.finding import absolute_path, find_images, listed_suffixes
from splitlearn.data.images import CentreCrop, FileImages, View, check_crop, random_part
from splitlearn.data.letterbox import Letterbox
from splitlearn.decoding import DataError, shown_shape
from splitlearn.files import sha256_of

__all__ = ["LetterboxPhotos", "Photos"]


class Photos(ImageDataModule):
    """Photographs without labels, from folders in any order: for distillation, where the network is its own teacher.

    All images at any depth are read; hidden files are ignored, and other files with a warning. Test and validation
    images are drawn from them; all others are for training. Batches are images and, in place of labels, an empty
    integer tensor `(B, 0)`.

    A training image is a random part of its photograph, often mirrored, and differs from epoch to epoch. A cache of
    features (`TrainFromCache`) keeps several such views of each.

    Args:
        root: the folder.
        image_size: height and width of the images: that of the network's input.
        resize: length of the shorter side before the crop at the centre, in pixels, for validation and test images;
            None means image_size.
        more_roots: further folders; a file that is found in several of them, by a link say, counts once, and copies are
            warned of.
        smallest_crop: smallest share of a photograph's area that a training image shows; 1 trains with the view of
            evaluation, which never varies.
        batch_size: images per batch.
        num_workers: processes that decode.
        val_size: number of photographs held out for validation.
        test_size: number of photographs held out for testing, without `test_root`.
        seed: seed of both draws.
        train_transform: further augmentation of training batches; see `ImageDataModule`.
        test_root: folder of the test images, all of which are tested; None holds `test_size` photographs out.

    Raises:
        ValueError: if `smallest_crop` is not above 0 and at most 1, `test_size` is below 1, or `image_size` is below 1
            or above `resize`.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        resize: int | None = None,
        more_roots: Sequence[str | Path] = (),
        smallest_crop: float = 0.3,
        batch_size: int = 32,
        num_workers: int = 0,
        val_size: int = 50,
        test_size: int = 50,
        seed: int = 0,
        train_transform: nn.Module | None = None,
        test_root: str | Path | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, train_transform)
        check_crop(smallest_crop)
        if test_size < 1:
            raise ValueError(f"test_size is at least 1, got {test_size}")
        self._eval_view: View = CentreCrop(image_size, resize)
        self.root, self.more_roots = root, tuple(more_roots)
        self.image_size, self.resize = image_size, resize
        self.smallest_crop, self.test_size, self.test_root = smallest_crop, test_size, test_root
        self._divided: tuple[list[Path], list[Path], list[Path]] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """No names, since photographs have no labels."""
        return ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (3, image_size, image_size) of every image."""
        return (3, self.image_size, self.image_size)

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """Arguments that determine the test images, unless these lie in a folder of their own."""
        return () if self.test_root is not None else ("more_roots", "test_root", "val_size", "test_size", "seed")

    @property
    def drawn_from(self) -> str:
        """SHA-256 of the files' names within their folders, if training and test images are drawn from them."""
        return "" if self.test_root is not None else id_of_list(name for name, _ in self._files)

    @property
    def augments(self) -> bool:
        """Whether training images vary from epoch to epoch."""
        return self.smallest_crop < 1 or super().augments

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images.

        Raises:
            DataError: a folder is missing or holds no images, a file is damaged, or there are too few for a batch.
        """
        train, val, _ = self._parts()
        return _images(train, self.train_view()), _images(val, self.eval_view())

    def load_test(self) -> Dataset[Batch]:
        """Return the test images; raises as `load_train`."""
        if self.test_root is not None:
            return _images(_found_in(absolute_path(self.test_root)), self.eval_view())
        return _images(self._parts()[2], self.eval_view())

    def train_view(self) -> View:
        """Return the random view of training images."""
        if self.smallest_crop == 1:
            return self.eval_view()
        return random_part(self.image_size, self.smallest_crop)

    def eval_view(self) -> View:
        """Return the view of evaluation: resize, then crop at the centre."""
        return self._eval_view

    def _parts(self) -> tuple[list[Path], list[Path], list[Path]]:
        """Return the files of training, validation and test, read once."""
        if self._divided is None:
            files = [file for _, file in self._files]
            test_size = self.test_size if self.test_root is None else 0
            held_out = self.val_size + test_size
            if len(files) - held_out < self.batch_size:
                raise DataError(
                    f"there are {len(files)} photographs in {self._places()}, and {self.val_size} for validation, "
                    f"{test_size} for testing and a batch of {self.batch_size} are needed: add photographs, or "
                    "set val_size, test_size or batch_size lower"
                )
            self._warn_of_small(files)
            self._warn_of_copies(files)
            others, test = list(range(len(files))), list[int]()
            if test_size:
                others, test = split_indices(len(files), test_size, self.seed)
            train, val = split_indices(len(others), self.val_size, self.seed)
            self._divided = (
                [files[others[index]] for index in train],
                [files[others[index]] for index in val],
                [files[index] for index in test],
            )
        return self._divided

    @cached_property
    def _files(self) -> list[tuple[str, Path]]:
        """Names within their folders and paths of all files, each file once, in the order of folders and names."""
        found: dict[str, tuple[str, Path]] = {}
        for folder in map(absolute_path, (self.root, *self.more_roots)):
            for image in _found_in(folder):
                found.setdefault(os.path.realpath(image), (image.relative_to(folder).as_posix(), image))
        return list(found.values())

    def _warn_of_copies(self, files: Sequence[Path]) -> None:
        """Warn of files with the same content, since a test may show a copy of what was trained on."""
        of_size: dict[int, list[Path]] = defaultdict(list)
        for file in files:
            of_size[file.stat().st_size].append(file)
        alike = [file for several in of_size.values() if len(several) > 1 for file in several]
        first: dict[str, Path] = {}
        copies = [(file, first[key]) for file in alike if first.setdefault(key := sha256_of(file), file) is not file]
        if copies:
            copy, original = copies[0]
            rank_zero_warn(
                f"{len(copies)} of {len(files)} photographs in {self._places()} are copies of others, {copy} of "
                f"{original} for example, so some may be trained on and tested too: remove the copies"
            )

    def _warn_of_small(self, files: Sequence[Path]) -> None:
        """Warn of photographs that are enlarged, since networks see sharper ones later."""
        small = [file for file in files if self._is_small(shown_shape(file))]
        if small:
            rank_zero_warn(
                f"{len(small)} of {len(files)} photographs in {self._places()} are smaller than {self.image_size} "
                f"pixels and are enlarged, {small[0].name} for example: larger ones train a better bottleneck"
            )

    def _is_small(self, shape: tuple[int, int]) -> bool:
        """Return whether a photograph of this height and width is enlarged."""
        return min(shape) < self.image_size

    def _places(self) -> str:
        return ", ".join(map(str, (self.root, *self.more_roots)))


class LetterboxPhotos(Photos):
    """Photographs without labels as detectors see them: scaled to fit a square, the rest grey (letterbox).

    As `Photos`, except that nothing of a validation or test image is cropped. A training image is a part of its
    photograph, of the same aspect ratio and often mirrored, in the same view.

    Args:
        root: the folder.
        image_size: height and width of the images: that of the network's input.
        more_roots: further folders; a file that is found in several of them, by a link say, counts once, and copies are
            warned of.
        smallest_crop: smallest share of a photograph's area that a training image shows; 1 trains with the view of
            evaluation, which never varies.
        batch_size: images per batch.
        num_workers: processes that decode.
        val_size: number of photographs held out for validation.
        test_size: number of photographs held out for testing, without `test_root`.
        seed: seed of both draws.
        train_transform: further augmentation of training batches; see `ImageDataModule`.
        test_root: folder of the test images, all of which are tested; None holds `test_size` photographs out.

    Raises:
        ValueError: as `Photos`.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int = 640,
        more_roots: Sequence[str | Path] = (),
        smallest_crop: float = 0.3,
        batch_size: int = 16,
        num_workers: int = 0,
        val_size: int = 50,
        test_size: int = 50,
        seed: int = 0,
        train_transform: nn.Module | None = None,
        test_root: str | Path | None = None,
    ) -> None:
        sizes = batch_size, num_workers, val_size, test_size
        super().__init__(root, image_size, None, more_roots, smallest_crop, *sizes, seed, train_transform, test_root)
        self._eval_view = Letterbox((image_size, image_size))

    def train_view(self) -> View:
        """Return the random view of training images."""
        if self.smallest_crop == 1:
            return self.eval_view()
        view: View = v2.Compose([_Part(self.smallest_crop), v2.RandomHorizontalFlip(), self.eval_view()])
        return view

    def _is_small(self, shape: tuple[int, int]) -> bool:
        return max(shape) < self.image_size


@dataclass(frozen=True)
class _Part:
    """A random part of an image, of its aspect ratio and at least the `smallest` share of its area."""

    smallest: float

    def __call__(self, image: Image.Image) -> Image.Image:
        share = self.smallest + (1 - self.smallest) * float(torch.rand(()))
        wide, high = (max(1, round(side * math.sqrt(share))) for side in image.size)
        left, top = (int(torch.randint(room + 1, ())) for room in (image.width - wide, image.height - high))
        return image.crop((left, top, left + wide, top + high))


def _found_in(folder: Path) -> list[Path]:
    """Return the images in a folder at any depth; raises DataError if it is missing or holds none."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name one that contains photographs")
    images = find_images(folder)
    if not images:
        raise DataError(f"{folder} holds no images ({listed_suffixes()}): name a folder that does")
    return images


def _images(files: Sequence[Path], view: View) -> FileImages:
    """Return files as images without labels."""
    return FileImages(files, [()] * len(files), view)
