"""Data module of images in folders named after their classes."""

import os
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.utils.data import Dataset

from splitlearn.data.base import Batch, ImageDataModule
from splitlearn.data.finding import absolute_path, first_image, folders_in, is_junk, scan
from splitlearn.data.images import CentreCrop, FileImages, ImageSet, View, check_crop, random_part
from splitlearn.decoding import DataError

__all__ = ["ImageFolder"]


NAMES = {  # folder names of each part, case-insensitive
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class ImageFolder(ImageDataModule):
    """Data set in a folder with train/, val/ and test/, each with images as `<class>/<image>`.

    val/ may also be named valid/, validation/ or dev/. Images may be in sub-folders of their class. Hidden files and
    system files such as Thumbs.db are ignored; a warning lists other files that are not read.

    | folders | validation images | test images |
    |---|---|---|
    | train/, val/, test/ | val/ | test/ |
    | train/, val/ | val_size images, held out from train/ | val/ |
    | train/, test/ | val_size images, held out from train/ | test/ |
    | train/ | val_size images, held out from train/ | none: a test is refused |

    Models are therefore never selected on test images. Only the folders that a command needs must exist: a test needs
    no train/.

    Args:
        root: the folder.
        image_size: height and width of the images, after resizing and a crop at the centre.
        resize: length of the shorter side before the crop, in pixels; None means image_size.
        smallest_crop: smallest share of its area that a training image shows, at random, often mirrored; 1 trains with
            the view of evaluation, which never varies. Not with `in_memory`.
        in_memory: decode every image once, before the first epoch, and keep it as uint8, for fast epochs of small
            images: 50,000 images of 32 × 32 need 150 MB.
        batch_size: images per batch.
        num_workers: processes that prepare batches; 0 is enough if `in_memory` is set.
        val_size: training images held out for validation.
        seed: seed for the choice of the held-out images.
        train_transform: augmentation of training batches, such as `CropFlip()`; see `ImageDataModule`.

    Raises:
        ValueError: if `smallest_crop` is not above 0 and at most 1, or below 1 for images in memory.
    """

    remedy = "set root to a folder that holds train/<class>/, val/<class>/ or test/<class>/"

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        resize: int | None = None,
        in_memory: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int = 5000,
        seed: int = 0,
        train_transform: nn.Module | None = None,
        smallest_crop: float = 1.0,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, train_transform)
        check_crop(smallest_crop)
        if in_memory and smallest_crop < 1:
            raise ValueError("images in memory are decoded once, so their crops cannot vary: leave smallest_crop at 1")
        self.smallest_crop = smallest_crop
        self._eval_view = CentreCrop(image_size, resize)
        self.root = root
        self.image_size = image_size
        self.resize = resize
        self.in_memory = in_memory
        self._has_warned = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders, sorted as text: 10 comes before 2.

        Raises:
            DataError: the folder is missing, or its parts have different classes.
        """
        folders = list(self._parts().values())
        first, *others = ({each.name for each in folders_in(folder)} for folder in folders)
        for folder, other in zip(folders[1:], others, strict=True):
            if difference := sorted(first ^ other):
                raise DataError(
                    f"{folders[0].name}/ and {folder.name}/ in {folder.parent} must have the same class folders; "
                    f"only one of them has {', '.join(difference[:3])}"
                )
        return tuple(sorted(first))

    @property
    def augments(self) -> bool:
        """Whether training images vary from epoch to epoch."""
        return self.smallest_crop < 1 or super().augments

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (3, image_size, image_size) of every image."""
        return (3, self.image_size, self.image_size)

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images.

        Raises:
            DataError: train/ is missing or has no images, or two parts or classes are links to one folder.
        """
        if {"val", "test"} <= set(self._parts()):
            return self._read("train", self.train_view()), self._read("val", self.eval_view())
        if self.in_memory:
            images = self._read("train", self.train_view())
            return self._hold_out(images, images)
        return self._hold_out(self._read("train", self.train_view()), self._read("train", self.eval_view()))

    def load_test(self) -> Dataset[Batch]:
        """Return the test images.

        Raises:
            DataError: test/ and val/ are missing or have no images, or two parts or classes are links to one folder.
        """
        return self._read("test" if "test" in self._parts() else "val", self.eval_view())

    def train_view(self) -> View:
        """Return the function (view) that prepares a decoded training image."""
        return self.eval_view() if self.smallest_crop == 1 else random_part(self.image_size, self.smallest_crop)

    def eval_view(self) -> View:
        """Return the function (view) that prepares a decoded image for evaluation: resize, then crop at the centre."""
        return self._eval_view

    def _read(self, part: str, view: View) -> ImageSet:
        names, parts = self.class_names, self._parts()
        root = absolute_path(self.root)
        if part not in parts:
            raise DataError(f"there is no {part}/ in {root}: {self.remedy}")
        _check_apart(parts)
        if not self._has_warned:
            self._has_warned = True
            _warn_of_order(root, names)
            _warn_of_images_beside(root, {*parts.values()})
        found = scan(parts[part])
        labelled = [(file, label) for label, name in enumerate(names) for file in found[name]]
        images = FileImages([file for file, _ in labelled], [label for _, label in labelled], view)
        return images.in_memory() if self.in_memory else images

    def _parts(self) -> dict[str, Path]:
        """Return the existing folders, in the order train, val, test."""
        root = absolute_path(self.root)
        folders = folders_in(root) if root.is_dir() else []
        parts = {}
        for part, names in NAMES.items():
            found = [folder for folder in folders if folder.name.lower() in names]
            if len(found) > 1:
                raise DataError(f"{root} holds {' and '.join(f'{f.name}/' for f in found)}: keep or rename one of them")
            if found:
                parts[part] = found[0]
        if not parts:
            what = "are no images in" if root.is_dir() else "is no folder"
            raise DataError(f"there {what} {root}: {self.remedy}")
        return parts


def _check_apart(parts: dict[str, Path]) -> None:
    """Refuse parts or classes that are links to one folder, since training images would also be tested."""
    seen: dict[str, Path] = {}
    for part in parts.values():
        for folder in (part, *folders_in(part)):
            other = seen.setdefault(os.path.realpath(folder), folder)
            if other != folder:
                raise DataError(f"{other} and {folder} are one folder, by a link: remove one of them")


def _warn_of_images_beside(root: Path, parts: set[Path]) -> None:
    """Warn of the first image beside the folders that are read."""
    beside = [entry for entry in root.iterdir() if entry not in parts and not is_junk(entry.name)]
    if found := next((image for image in map(first_image, sorted(beside)) if image is not None), None):
        rank_zero_warn(
            f"{found} is ignored, perhaps with others: images lie in train/<class>/, val/<class>/ or test/<class>/"
        )


def _warn_of_order(root: Path, names: tuple[str, ...]) -> None:
    """Warn of numbers sorted as text, since a network may have been trained with classes in numerical order."""
    if all(map(str.isdecimal, names)) and list(names) != sorted(names, key=int):
        rank_zero_warn(
            f"{root}: classes are sorted as text, {', '.join(names[:4])}, …, as in torchvision, not as numbers: for a "
            "network trained with numerical order, give all names equally many digits, such as 01"
        )
