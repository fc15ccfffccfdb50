"""Data modules of ImageNet, and of images listed in a CSV file with their classes."""

import csv
import io
import os
from functools import cache
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from splitlearn.data.base import Batch, ImageDataModule, id_of_list, split_indices
from splitlearn.data.class_lists import warn_of_unused
from splitlearn.data.finding import absolute_path
from splitlearn.data.folder import ImageFolder
from splitlearn.data.images import CentreCrop, FileImages, View
from splitlearn.data.text import read_text
from splitlearn.decoding import DataError
from splitlearn.outputs import check_num_classes

__all__ = ["ImageNet", "LabelledImages"]

Row = tuple[Path, int, str]
"""An image file, the index of its class, and the name of that class."""


class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012) as train/<wnid>/ and val/<wnid>/: the layout of torchvision, whole or with fewer classes.

    The 50,000 validation images of ImageNet are the test set here, since the labels of its test images are not public;
    validation images are held out from train/. Classes are ordered by wnid, as in pretrained models. Training crops
    have random positions and sizes, and half of them are mirrored; evaluation crops the centre.

    Args:
        root: folder that contains train/ and val/.
        image_size: height and width of the crop.
        resize: length of the shorter side before the crop of evaluation; None means image_size.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
        train_transform: further augmentation of training batches; see `ImageDataModule`.

    Reference: Russakovsky et al. 2015.
    """

    augments = True  # training crops are random
    remedy = (
        "ImageNet cannot be downloaded automatically; get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
        "https://image-net.org and unpack them into train/<wnid>/ and val/<wnid>/ there"
    )

    def __init__(
        self,
        root: str | Path,
        image_size: int = 224,
        resize: int | None = 256,
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int = 10000,
        seed: int = 0,
        train_transform: nn.Module | None = None,
    ) -> None:
        super().__init__(root, image_size, resize, False, batch_size, num_workers, val_size, seed, train_transform)

    def train_view(self) -> View:
        """Return the function (view) that crops a training image at random."""
        view: View = v2.Compose([v2.RandomResizedCrop(self.image_size), v2.RandomHorizontalFlip()])
        return view


class LabelledImages(ImageDataModule):
    """Images listed in a CSV file with their classes; some may be drawn for training, the others are test images.

    Training images are cropped as in evaluation.

    Args:
        root: folder that the file names are relative to.
        labels: the CSV file, relative to root. Its columns are `file`, `class_index` and, optionally, `name`, in any
            order, separated by commas, semicolons or tabs; other columns are ignored.
        image_size: height and width of the crop at the centre.
        resize: length of the shorter side before the crop, in pixels; None means image_size.
        num_classes: number of classes of the model; the list may contain fewer.
        batch_size: images per batch.
        num_workers: processes that decode.
        train_size: number of training images to draw; 0 uses all images for testing.
        val_size: number of validation images to draw, if there are training images.
        seed: seed for the choice of these images.
        train_transform: augmentation of training batches; see `ImageDataModule`.
    """

    def __init__(
        self,
        root: str | Path,
        labels: str = "labels.csv",
        image_size: int = 224,
        resize: int | None = 256,
        num_classes: int = 1000,
        batch_size: int = 128,
        num_workers: int = 0,
        train_size: int = 0,
        val_size: int = 1,
        seed: int = 0,
        train_transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, train_transform)
        check_num_classes(num_classes)
        self.train_size = train_size
        self._eval_view = CentreCrop(image_size, resize)
        self.root = root
        self.labels = labels
        self.image_size = image_size
        self.resize = resize
        self._num_classes = num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names from the CSV file, or indices of classes without a name.

        Raises:
            DataError: the file is missing or malformed.
        """
        names = {index: name for _, index, name in self._rows() if name}
        return tuple(names.get(index) or str(index) for index in range(self._num_classes))

    @property
    def num_classes(self) -> int:
        """Number of classes of the model."""
        return self._num_classes

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """Arguments that determine the test images."""
        return ("labels", "train_size", "val_size", "seed")

    @property
    def drawn_from(self) -> str:
        """SHA-256 of the listed names, if training and test images are drawn; raises DataError as `load_test`."""
        if not self.train_size:
            return ""
        folder = absolute_path(self.root)
        return id_of_list(image.relative_to(folder).as_posix() for image, _, _ in self._rows())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Three colours, and image_size as height and width."""
        return (3, self.image_size, self.image_size)

    def eval_view(self) -> View:
        """Return the function (view) that prepares a decoded image: resize, then crop at the centre."""
        return self._eval_view

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the images drawn for training and for validation.

        Raises:
            DataError: `train_size` is 0, or more images are to be drawn than listed; or as `load_test`.
        """
        if not self.train_size:
            raise DataError(f"{self._file()} has only test images: set train_size and val_size to train on some")
        train, val, test = self._drawn()
        warn_of_unused((index for _, index, _ in (*train, *val, *test)), self._num_classes, self._file())
        return self._images(train), self._images(val)

    def load_test(self) -> Dataset[Batch]:
        """Return the images that are not drawn for training or validation, in the order of the list.

        Raises:
            DataError: the list is missing or malformed, or one of its images is missing or listed twice.
        """
        return self._images(self._drawn()[2])

    def _drawn(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Return the rows of training, validation and test images."""
        rows = self._rows()
        _check_listed_once(self._file(), [image for image, _, _ in rows])
        if not self.train_size:
            return [], [], rows
        if self.train_size < 0 or self.train_size + self.val_size >= len(rows):
            raise DataError(
                f"{self._file()} lists {len(rows)} images: train_size={self.train_size} and val_size={self.val_size} "
                "must be positive and leave some for testing"
            )
        rest, train = split_indices(len(rows), self.train_size, self.seed)
        test, val = split_indices(len(rest), self.val_size, self.seed)
        return [rows[i] for i in train], [rows[rest[i]] for i in val], [rows[rest[i]] for i in test]

    def _images(self, rows: list[Row]) -> FileImages:
        missing = [file for file, _, _ in rows if not file.is_file()]
        if missing:
            raise DataError(f"{missing[0]}, listed in {self._file()}, is missing ({len(missing)} in all): correct root")
        return FileImages([file for file, _, _ in rows], [index for _, index, _ in rows], self._eval_view)

    def _rows(self) -> list[Row]:
        file = self._file()
        if not file.is_file():
            raise DataError(
                f"there is no {file}: set root to the folder of a CSV file with the columns file, class_index"
            )
        folder = absolute_path(self.root)
        rows = [(folder / path, index, name) for path, index, name in _read_rows(file)]
        outside = [index for _, index, _ in rows if not 0 <= index < self._num_classes]
        if not rows or outside:
            raise DataError(f"{file} must list images of classes 0 to {self._num_classes - 1}, found {outside[:3]}")
        names: dict[int, str] = {}
        for _, index, name in rows:
            if name and names.setdefault(index, name) != name:
                raise DataError(f"{file} names class {index} {names[index]!r} and {name!r}: correct one")
        return rows

    def _file(self) -> Path:
        return absolute_path(self.root) / self.labels


def _check_listed_once(file: Path, images: list[Path]) -> None:
    """Refuse a list with an image twice, since it could be drawn both for training and for testing."""
    resolved = cache(os.path.realpath)
    seen: set[str] = set()
    for image in images:
        place = os.path.realpath(image) if image.is_symlink() else os.path.join(resolved(image.parent), image.name)
        if place in seen:
            raise DataError(f"{file} lists {place} twice: list each image once, with its class")
        seen.add(place)


def _read_rows(file: Path) -> list[tuple[str, int, str]]:
    """Return file name, class index and class name of each row."""
    text = read_text(file)
    header, _, _ = text.partition("\n")
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    lines.fieldnames = [column.strip().lower() for column in lines.fieldnames or ()]
    rows = []
    try:
        for line in lines:
            index = float(line["class_index"])
            if not index.is_integer():
                raise ValueError(f"line {lines.line_num} has the class {line['class_index']}")
            path = line["file"].strip().replace("\\", "/")  # the list may have been written on Windows
            rows.append((path, int(index), (line.get("name") or "").strip()))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, csv.Error) as error:
        raise DataError(f"{file} needs the columns file and class_index, an integer ({error!r})") from error
    return rows
