"""Data modules of images with masks, in the layout of VOC and in parallel folders."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import Dataset, Subset
from torchvision.datasets import VOCSegmentation
from torchvision.datasets.voc import DATASET_YEAR_DICT

from splitlearn.data.base import Batch, FixedSizeDataModule, split_indices
from splitlearn.data.finding import absolute_path, download, find_images, walk
from splitlearn.data.images import View
from splitlearn.data.masks import Fitted, IdTable, Masked, MaskedImages, crop_and_flip, one_class_alone
from splitlearn.data.text import read_text
from splitlearn.decoding import DataError
from splitlearn.outputs import IGNORED

__all__ = ["FolderSegmentation", "SegmentationDataModule", "VocSegmentation"]

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class SegmentationDataModule(FixedSizeDataModule[Masked]):
    """Base class of data sets with masks, of images resized to one size.

    Models receive float32 images `(B, 3, H, W)` in [0, 1] and uint8 classes `(B, H, W)`, 255 for ignored pixels.

    ```
    training:   file → random crop of image and mask, scaled to image_size → randomly mirrored → uint8 batch
    evaluation: file → scaled to fit image_size → grey to the right and below, 255 in the mask → uint8 batch
    ```

    The arguments are documented in subclasses, such as `FolderSegmentation`.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, background included."""
        return self.table.names

    @property
    @abstractmethod
    def table(self) -> IdTable:
        """The classes that ids in mask files stand for."""

    augments = True  # training crops are random

    def eval_view(self) -> View:
        """Return the function (view) that scales and pads an image without a mask."""
        return Fitted(*self._size).image

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training images, cropped at random, and the validation images, which are disjoint.

        Raises:
            DataError: images or masks are missing, or masks hold at most one class and ignored pixels.
        """
        pairs = self.read_train()
        if problem := one_class_alone(pairs, self.table):
            raise DataError(problem)
        kept, held_out = split_indices(len(pairs), self.val_size, self.seed)
        train = MaskedImages(pairs, self.table, crop_and_flip(*self._size))
        return Subset(train, kept), Subset(self.images_of(pairs), held_out)

    def load_test(self) -> Dataset[Batch]:
        """Return the test images, with a warning if their masks hold at most one class and ignored pixels."""
        pairs = self.read_test()
        if problem := one_class_alone(pairs, self.table):
            rank_zero_warn(problem)
        return self.images_of(pairs)

    def images_of(self, annotated: list[Masked]) -> MaskedImages:
        """Return a data set of images and masks, scaled and padded."""
        return MaskedImages(annotated, self.table, Fitted(*self._size))


class VocSegmentation(SegmentationDataModule):
    """Pascal VOC, or any data set in its layout and with its 21 classes; 255 marks the borders of objects.

    The validation images of VOC are the test set here, since the masks of its test images are not public; validation
    images are held out from the training images.

    Args:
        root: folder that contains JPEGImages, SegmentationClass and ImageSets/Segmentation, or VOCdevkit/VOC2012 with
            these, as in the archive.
        download: download VOC 2012 (2 GB) with torchvision if it is absent.
        image_size: size of the images in pixels: side of a square, or height and width.
        train_list: name of the list of training images, such as train or trainval.
        test_list: name of the list of test images.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.

    Reference: Everingham et al. 2010.
    """

    def __init__(
        self,
        root: str | Path,
        download: bool = False,
        image_size: int | tuple[int, int] = 513,
        train_list: str = "train",
        test_list: str = "val",
        batch_size: int = 8,
        num_workers: int = 0,
        val_size: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(root, image_size, batch_size, num_workers, val_size, seed)
        self.download = download
        self.train_list = train_list
        self.test_list = test_list

    @cached_property
    def table(self) -> IdTable:
        """The class numbers of VOC."""
        return IdTable({name: label for label, name in enumerate(VOC_NAMES)})

    def prepare_data(self) -> None:
        """Download the data if `download` is set, in one process only.

        Raises:
            DataError: the download failed.
        """
        if not self.download or (self._folder() / "JPEGImages").is_dir():
            return
        url, root = DATASET_YEAR_DICT["2012"]["url"], absolute_path(self.root)
        download(url, root, lambda: VOCSegmentation(root, "2012", "trainval", download=True))

    def read_train(self) -> list[Masked]:
        """Return the images of the training list, with a warning about images that are also in the test list.

        Raises:
            DataError: the folder or the list is missing, or an image or mask of the list.
        """
        pairs = self._read(self.train_list)
        if self._list(self.test_list).is_file():
            tested = set(read_text(self._list(self.test_list)).split())
            if both := sum(pair.mask.stem in tested for pair in pairs):
                rank_zero_warn(
                    f"{both} of the images to train on are in {self._list(self.test_list)} as well, and a test on them "
                    "would be too good: set train_list and test_list to lists that share none"
                )
        return pairs

    def read_test(self) -> list[Masked]:
        """Return the images of the test list and their masks."""
        return self._read(self.test_list)

    def _read(self, name: str) -> list[Masked]:
        folder = self._folder()
        for part in ("JPEGImages", "SegmentationClass"):
            if not (folder / part).is_dir():
                raise DataError(
                    f"there is no {folder / part}: set root to the folder that holds JPEGImages, SegmentationClass and "
                    "ImageSets/Segmentation, or download to true"
                )
        listed = self._list(name)
        if not listed.is_file():
            raise DataError(f"there is no {listed}: put the list there, or name another one")
        names = read_text(listed).split()
        if not names:
            raise DataError(f"{listed} lists no images: name another list, or write one name per line, without .jpg")
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise DataError(f"{listed} lists {repeated[0]} more than once: list each image once")
        pairs = [Masked(folder / f"JPEGImages/{n}.jpg", folder / f"SegmentationClass/{n}.png") for n in names]
        if missing := [file for pair in pairs for file in (pair.image, pair.mask) if not file.is_file()]:
            raise DataError(
                f"{missing[0]}, listed in {listed}, is missing ({len(missing)} in all): add it, or correct root or the "
                "list"
            )
        return pairs

    def _folder(self) -> Path:
        root = absolute_path(self.root)
        inside = root / DATASET_YEAR_DICT["2012"]["base_dir"]
        if (root / "JPEGImages").is_dir():
            return root
        return inside if self.download or inside.is_dir() else root

    def _list(self, name: str) -> Path:
        return self._folder() / "ImageSets/Segmentation" / f"{name}.txt"


class FolderSegmentation(SegmentationDataModule):
    """Images and masks in parallel folders; masks are PNG files with an id for each pixel, such as COCO's.

    A mask has the name of its image, with the suffix .png. Images without mask are ignored, and a warning states their
    number.

    Args:
        root: folder that the names below are relative to.
        classes: for the name of each class its id, a list of ids, or an empty list. The order of the names numbers the
            classes and must be that of the network.
        others: class of ids without class, such as 0 for the background, or 255 to ignore these pixels; None refuses
            masks with such ids.
        ignored: ids of pixels to ignore.
        image_size: size of the images in pixels: side of a square, or height and width.
        train_images: folder of the training images.
        train_masks: folder of the training masks.
        test_images: folder of the test images.
        test_masks: folder of the test masks.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.

    Raises:
        ValueError: if the classes contradict each other.
    """

    def __init__(
        self,
        root: str | Path,
        classes: dict[str, int | list[int]],
        others: int | None = None,
        ignored: tuple[int, ...] = (IGNORED,),
        image_size: int | tuple[int, int] = 513,
        train_images: str = "images/train",
        train_masks: str = "masks/train",
        test_images: str = "images/val",
        test_masks: str = "masks/val",
        batch_size: int = 8,
        num_workers: int = 0,
        val_size: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(root, image_size, batch_size, num_workers, val_size, seed)
        self.classes = classes
        self.others = others
        self.ignored = ignored
        self.train_images = train_images
        self.train_masks = train_masks
        self.test_images = test_images
        self.test_masks = test_masks
        self._table = IdTable(classes, others, ignored)

    @property
    def table(self) -> IdTable:
        """The classes that ids in mask files stand for, from `classes`, `others` and `ignored`."""
        return self._table

    def read_train(self) -> list[Masked]:
        """Return the training images that have a mask, and the masks, sorted by name."""
        return self._read(self.train_images, self.train_masks)

    def read_test(self) -> list[Masked]:
        """Return the test images that have a mask, and the masks, sorted by name."""
        return self._read(self.test_images, self.test_masks)

    def _read(self, images: str, masks: str) -> list[Masked]:
        pictures, drawn = absolute_path(self.root) / images, absolute_path(self.root) / masks
        for folder in (pictures, drawn):
            if not folder.is_dir():
                raise DataError(f"there is no {folder}: set root and the names of its folders of images and masks")
        named = {file.relative_to(drawn).with_suffix(""): file for file in walk(drawn) if file.suffix.lower() == ".png"}
        if not named:
            raise DataError(f"{drawn} holds no masks (.png): put them there, or name another folder")
        found: dict[Path, Path] = {}
        for file in find_images(pictures):
            name = file.relative_to(pictures).with_suffix("")
            if name in named and name in found:
                raise DataError(f"{named[name]} belongs to {found[name].name} and to {file.name}: remove one of them")
            found[name] = file
        if alone := sorted(named.keys() - found.keys()):
            raise DataError(
                f"{named[alone[0]]} has no image in {pictures} ({len(alone)} such masks in all): "
                "add the image or remove the mask"
            )
        if without := len(found.keys() - named.keys()):
            rank_zero_warn(f"{without} of {len(found)} images of {pictures} have no mask in {drawn} and are ignored")
        return [Masked(found[name], mask) for name, mask in sorted(named.items())]
