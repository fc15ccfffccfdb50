"""Images with boxes, in COCO's and in YOLO's layout."""

from abc import abstractmethod
from pathlib import Path

from torch.utils.data import Dataset, Subset

from splitlearn.data.base import Batch, ImageDataModule, split_indices
from splitlearn.data.images import View
from splitlearn.data.layouts import CocoLayout, YoloLayout
from splitlearn.data.letterbox import BoxImages, Labelled, Letterbox

__all__ = ["CocoDetection", "DetectionDataModule", "YoloDetection"]


class DetectionDataModule(ImageDataModule):
    """Images with boxes: float32 `(B, 3, H, W)` in [0, 1], and a list of `Boxes`, one an image, in its pixels.

    ```
    file → RGB → scaled to fit image_size, the rest grey (letterbox) → uint8 batch → device → float32 in [0, 1]
    ```

    Args:
        root: the folder that other names are relative to.
        image_size: side of the square that images are brought to, or height and width.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.
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

    def eval_view(self) -> View:
        """Return the letterbox, as an image."""
        return Letterbox(self._size)

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images, which share none; neither is augmented.

        Raises:
            DataError: images or labels are missing or damaged.
        """
        images = BoxImages(self.read_train(), self._size)
        kept, held_out = split_indices(len(images), self.val_size, self.seed)
        return Subset(images, kept), Subset(images, held_out)

    def load_test(self) -> Dataset[Batch]:
        """Return the test images.

        Raises:
            DataError: images or labels are missing or damaged.
        """
        return BoxImages(self.read_test(), self._size)

    @abstractmethod
    def read_train(self) -> list[Labelled]:
        """Return the training images and their objects."""

    @abstractmethod
    def read_test(self) -> list[Labelled]:
        """Return the test images and their objects."""


class CocoDetection(CocoLayout, DetectionDataModule):
    """COCO, or any data set whose boxes stand in COCO's instances json.

    Its validation images are the test set here, since the labels of the official test images are not public;
    validation images are held out of the training images. Classes are the categories in the order of their ids, without
    gaps: the 80 of COCO are 0 … 79, as YOLO numbers them. Boxes of crowds are passed on as such. Images have the sizes
    that the json tells, upright by their EXIF orientation: boxes on scaled, cropped or turned copies are refused.

    Args:
        root: the folder that the names below are relative to.
        image_size: side of the square that images are brought to, or height and width.
        train_images: folder of the training images.
        train_annotations: their json.
        test_images: folder of the test images.
        test_annotations: their json.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.

    Reference: Lin et al. 2014.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int | tuple[int, int] = 640,
        train_images: str = "train2017",
        train_annotations: str = "annotations/instances_train2017.json",
        test_images: str = "val2017",
        test_annotations: str = "annotations/instances_val2017.json",
        batch_size: int = 16,
        num_workers: int = 0,
        val_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(root, image_size, batch_size, num_workers, val_size, seed)
        self.train_images = train_images
        self.train_annotations = train_annotations
        self.test_images = test_images
        self.test_annotations = test_annotations

    def read_train(self) -> list[Labelled]:
        """Return the training images and their objects.

        Raises:
            DataError: images or json are missing, or the json is damaged.
        """
        return self._labelled_train()

    def read_test(self) -> list[Labelled]:
        """Return the test images and their objects.

        Raises:
            DataError: images or json are missing, or the json is damaged.
        """
        return self._labelled_test()


class YoloDetection(YoloLayout, DetectionDataModule):
    """Images in images/…, boxes in text files of the same names in labels/…, as YOLO reads them.

    `images/val2017/7.jpg` has its objects in `labels/val2017/7.txt`, a line each: class, centre x, centre y, width and
    height, the last four as shares of the image's width and height. An image without such a file has no objects.

    Args:
        root: the folder that holds images/ and labels/.
        image_size: side of the square that images are brought to, or height and width.
        train_images: folder of the training images, in root.
        test_images: folder of the test images, in root.
        num_classes: how many classes there are; 80 for COCO. Compared with data.yaml or classes.txt in root, if there
            is one.
        names: a name for each class; by default it is called by its index.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int | tuple[int, int] = 640,
        train_images: str = "images/train2017",
        test_images: str = "images/val2017",
        num_classes: int = 80,
        names: list[str] | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        val_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(root, image_size, batch_size, num_workers, val_size, seed)
        self._name_classes(num_classes, names)
        self.train_images = train_images
        self.test_images = test_images

    def read_train(self) -> list[Labelled]:
        """Return the training images and their objects.

        Raises:
            DataError: there are no images, no labels, or malformed ones.
        """
        return self._labelled_train()

    def read_test(self) -> list[Labelled]:
        """Return the test images and their objects.

        Raises:
            DataError: there are no images, no labels, or malformed ones.
        """
        return self._labelled_test()
