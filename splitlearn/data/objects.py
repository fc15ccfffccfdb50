"""Data modules of images of different sizes with boxes and masks, for R-CNN detectors."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from splitlearn.data.aspect_ratio import AspectBatches, aspect_groups
from splitlearn.data.base import AnnotatedDataModule, Batch, passed_on, split_indices
from splitlearn.data.checks import shipped
from splitlearn.data.finding import absolute_path, find_images
from splitlearn.data.images import View
from splitlearn.data.layouts import CocoLayout, YoloLayout
from splitlearn.data.letterbox import Labelled
from splitlearn.data.object_images import Annotation, IdMask, ObjectImages, Polygons, Shares
from splitlearn.decoding import DataError

__all__ = ["CocoObjects", "ObjectsDataModule", "PennFudan", "YoloObjects"]

Annotated = list[tuple[Path, Annotation]]


class ObjectsDataModule(AnnotatedDataModule[tuple[Path, Annotation]]):
    """Base class of data sets of images in their original sizes, with their objects.

    Models receive lists of float32 images `(3, H, W)` in [0, 1] and of `Boxes`.

    ```
    file → RGB, upright → transform (training only) → uint8, a list → device → float32 in [0, 1]
    ```

    The detector resizes images. Training batches hold images of similar aspect ratios. The arguments are documented in
    subclasses, such as `CocoObjects`.
    """

    def __init__(
        self, batch_size: int, num_workers: int, val_size: int, seed: int, transform: nn.Module | None
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed)
        self.transform = transform

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Raises DataError, since images have different sizes."""
        raise DataError(
            f"images of {type(self).__name__} have different sizes: their features cannot be cached, and the shape of "
            "an example must be given"
        )

    @property
    def augments(self) -> bool:
        """Whether training images vary from epoch to epoch."""
        return self.transform is not None

    def eval_view(self) -> View:
        """Return the function (view) that does not change an image."""
        return unchanged

    def images_of(self, annotated: Annotated) -> ObjectImages:
        """Return a data set of these images, unchanged."""
        return ObjectImages([file for file, _ in annotated], [known for _, known in annotated])

    def augmented(self, annotated: Annotated) -> ObjectImages:
        """Return a data set of these images, each changed by `transform`."""
        return ObjectImages([file for file, _ in annotated], [known for _, known in annotated], self.transform)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled training batches of images of similar aspect ratios.

        Raises:
            DataError: a file is no image.
        """
        images: Any = self._part("train")
        if images is None:
            return self._loader(images)  # raises with the remedy
        groups = aspect_groups(map(images.shape, range(len(images))))
        return DataLoader(
            images,
            batch_sampler=AspectBatches(RandomSampler(images), self.batch_size, False, groups),
            num_workers=self.num_workers,
            collate_fn=passed_on,
            persistent_workers=self.num_workers > 0,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Convert the images of a batch to float32 in [0, 1].

        Args:
            batch: uint8 images `(3, H, W)` on the device, and their objects, which are not changed.
            dataloader_idx: index of the loader; there is only one.
        """
        images, objects = batch
        return [shipped(image, self) for image in images], objects

    def batches(self, part: str, augmented: bool = False) -> Any:
        """Yield all batches of a part in the order of its images, in the form that detectors expect.

        Args:
            part: "train", "val" or "test"; `setup` must have read it.
            augmented: apply `transform` to training images.
        """
        images: Any = self._part(part)
        if not augmented and images is not None:
            images = ObjectImages(images.files, images.annotations)
        for raw, objects in self._loader(images):
            yield [shipped(image, self) for image in raw], objects


class CocoObjects(CocoLayout, ObjectsDataModule):
    """COCO, or any data set in its layout, with images in their original sizes and optional masks.

    Parts, classes and crowds are those of `CocoDetection`, which resizes images to one size.

    Args:
        root: folder that the names below are relative to.
        masks: read masks too; needs faster-coco-eval.
        train_images: folder of the training images.
        train_annotations: json of the training images.
        test_images: folder of the test images.
        test_annotations: json of the test images.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
        transform: transform of torchvision's v2 for training images, boxes and masks, such as `RandomHorizontalFlip`.

    Reference: Lin et al. 2014.
    """

    def __init__(
        self,
        root: str | Path,
        masks: bool = False,
        train_images: str = "train2017",
        train_annotations: str = "annotations/instances_train2017.json",
        test_images: str = "val2017",
        test_annotations: str = "annotations/instances_val2017.json",
        batch_size: int = 2,
        num_workers: int = 0,
        val_size: int = 1000,
        seed: int = 0,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, transform)
        self.root = root
        self.masks = masks
        self.train_images, self.train_annotations = train_images, train_annotations
        self.test_images, self.test_annotations = test_images, test_annotations

    def read_train(self) -> Annotated:
        """Return the training images and their annotations."""
        return self._annotated(self._labelled_train(self.masks))

    def read_test(self) -> Annotated:
        """Return the test images and their annotations."""
        return self._annotated(self._labelled_test(self.masks))

    def _annotated(self, labelled: list[Labelled]) -> Annotated:
        return [(each.file, Polygons(each) if self.masks else Shares(each)) for each in labelled]


class YoloObjects(YoloLayout, ObjectsDataModule):
    """Images in their original sizes in images/…, and boxes in labels/…, in the layout of `YoloDetection`.

    Args:
        root: folder that contains images/ and labels/.
        train_images: folder of the training images, in root.
        test_images: folder of the test images, in root.
        num_classes: number of classes; 80 for COCO. Compared with data.yaml or classes.txt in root, if there is one.
        names: name of each class; by default its index.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
        transform: transform of torchvision's v2 for training images and boxes, such as `RandomHorizontalFlip`.
    """

    def __init__(
        self,
        root: str | Path,
        train_images: str = "images/train2017",
        test_images: str = "images/val2017",
        num_classes: int = 80,
        names: list[str] | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        val_size: int = 1000,
        seed: int = 0,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, transform)
        self._name_classes(num_classes, names)
        self.root = root
        self.train_images, self.test_images = train_images, test_images

    def read_train(self) -> Annotated:
        """Return the training images and their annotations."""
        return [(each.file, Shares(each)) for each in self._labelled_train()]

    def read_test(self) -> Annotated:
        """Return the test images and their annotations."""
        return [(each.file, Shares(each)) for each in self._labelled_test()]


class PennFudan(ObjectsDataModule):
    """170 photographs with masks of 423 pedestrians and their bounding boxes, a small data set to train detectors.

    Images are in PNGImages/, as downloaded, or images/. Masks are in PedMasks/ as NAME_mask.png, or in masks/ as
    NAME.png. The data set has no official parts; `test_size` images are drawn with the seed.

    Args:
        root: folder that contains both.
        test_size: images held out for the test.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: images held out for validation from the remaining ones.
        seed: seed for the choice of test and validation images.
        transform: transform of torchvision's v2 for training images, boxes and masks, such as `RandomHorizontalFlip`.

    Reference: Wang et al. 2007, Object detection combining recognition and segmentation.
    """

    class_names = ("pedestrian",)

    def __init__(
        self,
        root: str | Path,
        test_size: int = 40,
        batch_size: int = 2,
        num_workers: int = 0,
        val_size: int = 20,
        seed: int = 0,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, transform)
        self.root = absolute_path(root)
        self.test_size = test_size

    def read_train(self) -> Annotated:
        """Return the images that are not held out for the test, and their masks."""
        return self._parts[0]

    def read_test(self) -> Annotated:
        """Return the images held out for the test, and their masks."""
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[Annotated, Annotated]:
        images, masks = self._folder("PNGImages", "images"), self._folder("PedMasks", "masks")
        annotated: Annotated = [(file, IdMask(_mask_of(file, masks))) for file in find_images(images)]
        kept, held_out = split_indices(len(annotated), self.test_size, self.seed)
        return [annotated[i] for i in kept], [annotated[i] for i in held_out]

    def _folder(self, *names: str) -> Path:
        for name in names:
            if (self.root / name).is_dir():
                return self.root / name
        raise DataError(f"there is no {self.root / names[0]}: set root to the folder that holds it")


def _mask_of(image: Path, folder: Path) -> Path:
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{image} has no mask {folder / image.stem}_mask.png: put it there, or remove the image")


def unchanged(image: Image.Image) -> Image.Image:
    """Return an image unchanged."""
    return image
