"""Images with masks, in the layout of VOC and in folders side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path
from urllib.request import urlopen

from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import Dataset, Subset
from torchvision.datasets import VOCSegmentation
from torchvision.datasets.voc import DATASET_YEAR_DICT

from splitlearn.data.base import Batch, ImageDataModule, split_indices
from splitlearn.data.errors import DataError
from splitlearn.data.finding import find_images, walk
from splitlearn.data.images import View
from splitlearn.data.masks import Fitted, IdTable, Masked, MaskedImages, crop_and_flip, one_class_alone
from splitlearn.data.text import read_text
from splitlearn.outputs import IGNORED
from splitlearn.shortage import of_machine

__all__ = ["FolderSegmentation", "SegmentationDataModule", "VocSegmentation"]

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class SegmentationDataModule(ImageDataModule):
    """Images with masks: float32 `(B, 3, H, W)` in [0, 1], and uint8 classes `(B, H, W)`, 255 where a pixel has none.

    ```
    training:   file → random crop of image and mask, scaled to image_size → mirrored, or not → uint8 batch
    evaluation: file → scaled to fit image_size → grey to the right and below, 255 in the mask → uint8 batch
    ```

    Args:
        root: the folder that other names are relative to.
        image_size: side of the square that images are brought to, or height and width.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.

    Raises:
        ValueError: if `image_size` is not positive.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int | tuple[int, int],
        batch_size: int,
        num_workers: int,
        val_size: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if min(height, width) < 1:
            raise ValueError(f"image_size must be at least 1, got {image_size}")
        self.root = root
        self.image_size = image_size
        self._size = height, width

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Three colours, image_size high and wide."""
        return (3, *self._size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, the background's included."""
        return self.table.names

    @property
    @abstractmethod
    def table(self) -> IdTable:
        """What the ids in mask files stand for."""

    @property
    def augments(self) -> bool:
        """True: every training image is cropped anew each time."""
        return True

    def eval_view(self) -> View:
        """Return what scales and pads an image without a mask."""
        return Fitted(*self._size).image

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training images, cropped at random, and the validation images, which share none.

        Raises:
            DataError: images or masks are missing, or masks hold one class at most and ignored pixels.
        """
        pairs = self.read_train()
        if told := one_class_alone(pairs, self.table):
            raise DataError(told)
        kept, held_out = split_indices(len(pairs), self.val_size, self.seed)
        train = MaskedImages(pairs, self.table, crop_and_flip(*self._size))
        return Subset(train, kept), Subset(MaskedImages(pairs, self.table, Fitted(*self._size)), held_out)

    def load_test(self) -> Dataset[Batch]:
        """Return the test images; a warning tells if their masks hold one class at most and ignored pixels.

        Raises:
            DataError: images or masks are missing.
        """
        pairs = self.read_test()
        if told := one_class_alone(pairs, self.table):
            rank_zero_warn(told)
        return MaskedImages(pairs, self.table, Fitted(*self._size))

    @abstractmethod
    def read_train(self) -> list[Masked]:
        """Return the training images and their masks."""

    @abstractmethod
    def read_test(self) -> list[Masked]:
        """Return the test images and their masks."""

    def _root(self) -> Path:
        return Path(self.root).expanduser().absolute()


class VocSegmentation(SegmentationDataModule):
    """Pascal VOC, or any data set in its layout and with its 21 classes; 255 marks the borders of objects.

    Its validation images are the test set here, since the masks of the official test images are not public; validation
    images are held out of the training images.

    Args:
        root: the folder that holds JPEGImages, SegmentationClass and ImageSets/Segmentation; or one that holds, or
            shall hold, VOCdevkit/VOC2012 with these, as the archive unpacks.
        download: fetch VOC 2012 (2 GB) by torchvision if it is not there.
        image_size: side of the square that images are brought to, or height and width.
        train_list: name of the list of training images, train or trainval say.
        test_list: name of the list of test images.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.

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
        """VOC's own numbers."""
        return IdTable({name: label for label, name in enumerate(VOC_NAMES)})

    def prepare_data(self) -> None:
        """Download the data if that was asked for, in one process only.

        Raises:
            DataError: the download failed.
        """
        if self.download and not (self._folder() / "JPEGImages").is_dir():
            self._download()

    def read_train(self) -> list[Masked]:
        """Return the images of the training list; those that are in the test list as well are told in a warning.

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
        """Return the images of the test list.

        Raises:
            DataError: the folder or the list is missing, or an image or mask of the list.
        """
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
            raise DataError(f"{listed} lists no images: name another list, or write a name a line, without its .jpg")
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise DataError(f"{listed} lists {repeated[0]} more than once: list each image once")
        pairs = [Masked(folder / f"JPEGImages/{n}.jpg", folder / f"SegmentationClass/{n}.png") for n in names]
        _check_all_there([file for pair in pairs for file in (pair.image, pair.mask)], f"listed in {listed}")
        return pairs

    def _folder(self) -> Path:
        root = self._root()
        inside = root / DATASET_YEAR_DICT["2012"]["base_dir"]
        if (root / "JPEGImages").is_dir():
            return root
        return inside if self.download or inside.is_dir() else root

    def _list(self, name: str) -> Path:
        return self._folder() / "ImageSets/Segmentation" / f"{name}.txt"

    def _download(self) -> None:
        url = DATASET_YEAR_DICT["2012"]["url"]
        try:
            urlopen(url, timeout=10).close()  # torchvision waits without limit where nothing answers
            VOCSegmentation(self._root(), "2012", "trainval", download=True)
        except (OSError, RuntimeError) as error:
            if of_machine(error):
                raise
            raise DataError(
                f"cannot download {url} ({error}): try again online, or unpack that archive into {self._root()}"
            ) from error


class FolderSegmentation(SegmentationDataModule):
    """A folder of masks beside a folder of images: PNG files with an id for each pixel, COCO's say.

    A mask has the name of its image, with .png in place of its suffix. Images without a mask are passed over, with a
    warning that counts them.

    Args:
        root: the folder that the names below are relative to.
        classes: of each class by its name, its id in the masks, or several, or none; the order of the names numbers the
            classes, so they must be those of the network.
        others: class of ids that no class has: 0 where that is the background, 255 to leave these pixels out; None
            refuses masks with such ids.
        ignored: ids whose pixels are left out.
        image_size: side of the square that images are brought to, or height and width.
        train_images: folder of the training images.
        train_masks: folder of their masks.
        test_images: folder of the test images.
        test_masks: folder of their masks.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.

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
        """What `classes`, `others` and `ignored` say."""
        return self._table

    def read_train(self) -> list[Masked]:
        """Return the training images that have a mask, sorted by name.

        Raises:
            DataError: a folder is missing or empty, or a mask has no image.
        """
        return self._read(self.train_images, self.train_masks)

    def read_test(self) -> list[Masked]:
        """Return the test images that have a mask, sorted by name.

        Raises:
            DataError: a folder is missing or empty, or a mask has no image.
        """
        return self._read(self.test_images, self.test_masks)

    def _read(self, images: str, masks: str) -> list[Masked]:
        pictures, drawn = self._root() / images, self._root() / masks
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
            rank_zero_warn(
                f"{without} of {len(found)} images of {pictures} have no mask in {drawn} and are passed over"
            )
        return [Masked(found[name], mask) for name, mask in sorted(named.items())]


def _check_all_there(files: list[Path], told: str) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]}, {told}, is missing ({len(missing)} in all): add it, or correct root or the list"
        )
