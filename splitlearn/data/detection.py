"""Data modules of images with boxes, in the layouts of COCO and YOLO."""

from pathlib import Path

from torch.utils.data import Dataset

from splitlearn.data.base import Batch, FixedSizeDataModule
from splitlearn.data.images import View
from splitlearn.data.layouts import CocoLayout, YoloLayout
from splitlearn.data.letterbox import BoxImages, Labelled, Letterbox

__all__ = ["CocoDetection", "DetectionDataModule", "YoloDetection"]


class DetectionDataModule(FixedSizeDataModule[Labelled]):
    """Base class of data sets for object detection, with images resized to one size.

    Models receive float32 images `(B, 3, H, W)` in [0, 1] and a list with one `Boxes` per image, in pixels of the
    resized image.

    ```
    file → RGB → scaled to fit image_size, the rest grey (letterbox) → uint8 batch → device → float32 in [0, 1]
    ```

    The arguments are documented in subclasses, such as `CocoDetection`.
    """

    def eval_view(self) -> View:
        """Return the letterbox view."""
        return Letterbox(self._size)

    def images_of(self, annotated: list[Labelled]) -> Dataset[Batch]:
        """Return a data set of letterboxed images."""
        return BoxImages(annotated, self._size)


class CocoDetection(CocoLayout, DetectionDataModule):
    """COCO, or any data set with boxes in COCO's instances json.

    The validation images of COCO are the test set here, since the labels of its test images are not public; validation
    images are held out from the training images. Classes are the categories in the order of their ids, without gaps:
    the 80 of COCO are 0 … 79, as in YOLO. Boxes of crowds are marked. Upright images must have the sizes in the json,
    so scaled, cropped or turned copies are refused.

    Args:
        root: folder that the names below are relative to.
        image_size: size of the images in pixels: side of a square, or height and width.
        train_images: folder of the training images.
        train_annotations: json of the training images.
        test_images: folder of the test images.
        test_annotations: json of the test images.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.

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
        """Return the training images and their objects."""
        return self._labelled_train()

    def read_test(self) -> list[Labelled]:
        """Return the test images and their objects."""
        return self._labelled_test()


class YoloDetection(YoloLayout, DetectionDataModule):
    """Images in images/… and boxes in text files of the same names in labels/…, the layout of YOLO.

    The objects of `images/val2017/7.jpg` are in `labels/val2017/7.txt`, one per line: class, centre x, centre y, width
    and height, the last four as shares of the image's width and height. An image without label file has no objects.

    Args:
        root: folder that contains images/ and labels/.
        image_size: size of the images in pixels: side of a square, or height and width.
        train_images: folder of the training images, in root.
        test_images: folder of the test images, in root.
        num_classes: number of classes; 80 for COCO. Compared with data.yaml or classes.txt in root, if there is one.
        names: name of each class; by default its index.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
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
        """Return the training images and their objects."""
        return self._labelled_train()

    def read_test(self) -> list[Labelled]:
        """Return the test images and their objects."""
        return self._labelled_test()
