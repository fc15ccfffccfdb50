"""Images of their own sizes with boxes, and masks where there are any: what R-CNN detectors are trained on."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from splitlearn.data.aspect import AspectBatches, aspect_groups
from splitlearn.data.base import Batch, ImageDataModule, passed_on, split_indices
from splitlearn.data.checks import shipped
from splitlearn.data.errors import DataError
from splitlearn.data.finding import find_images
from splitlearn.data.images import View
from splitlearn.data.layouts import CocoLayout, YoloLayout
from splitlearn.data.letterbox import Labelled
from splitlearn.data.object_images import Annotation, IdMask, ObjectImages, Polygons, Shares

__all__ = ["CocoObjects", "ObjectsDataModule", "PennFudan", "YoloObjects"]

Annotated = list[tuple[Path, Annotation]]


class ObjectsDataModule(ImageDataModule):
    """Images as they are, and their objects: a list of float32 `(3, H, W)` in [0, 1], and a list of `Boxes`.

    ```
    file → RGB, upright → transform (training only) → uint8, a list → device → float32 in [0, 1]
    ```

    The detector brings images to its size. Training batches hold images of about the same shape.

    Args:
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.
        transform: of torchvision's v2, on training images, their boxes and masks; None leaves them as they are.
    """

    def __init__(
        self, batch_size: int, num_workers: int, val_size: int, seed: int, transform: nn.Module | None
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed)
        self.transform = transform

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Images have none in common.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"images of {type(self).__name__} have sizes of their own: features of theirs cannot be cached, and an "
            "example's shape must be given"
        )

    @property
    def augments(self) -> bool:
        """Whether a training image is another one each time."""
        return self.transform is not None

    def eval_view(self) -> View:
        """Return what leaves an image as it is."""
        return as_it_is

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images, which share none.

        Raises:
            DataError: images or labels are missing or damaged.
        """
        annotated = self.read_train()
        kept, held_out = split_indices(len(annotated), self.val_size, self.seed)
        return _images([annotated[i] for i in kept], self.transform), _images([annotated[i] for i in held_out])

    def load_test(self) -> Dataset[Batch]:
        """Return the test images.

        Raises:
            DataError: images or labels are missing or damaged.
        """
        return _images(self.read_test())

    @abstractmethod
    def read_train(self) -> Annotated:
        """Return the training images and what is known of them."""

    @abstractmethod
    def read_test(self) -> Annotated:
        """Return the test images and what is known of them."""

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled training batches of images of about the same shape.

        Raises:
            DataError: a file is no image.
        """
        images: Any = self._part("train")
        if images is None:
            return self._loader(images)  # which says what to do
        groups = aspect_groups(map(images.shape, range(len(images))))
        return self._batched(images, AspectBatches(RandomSampler(images), self.batch_size, False, groups))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Convert the images of a batch to float32 in [0, 1].

        Args:
            batch: uint8 images `(3, H, W)` on the device, and their objects, which pass untouched.
            dataloader_idx: which of several loaders it came from; there is only one.
        """
        images, objects = batch
        return [shipped(image, self) for image in images], objects

    def batches(self, part: str, augmented: bool = False) -> Any:
        """Yield all batches of a part in the order of its images, as a detector takes them.

        Args:
            part: "train", "val" or "test"; `setup` has read it.
            augmented: apply `transform` to training images.
        """
        images: Any = self._part(part)
        if not augmented and images is not None:
            images = ObjectImages(images.files, images.annotations)
        for raw, objects in self._loader(images):
            yield [shipped(image, self) for image in raw], objects

    def _batched(self, images: Dataset[Batch], batches: BatchSampler) -> DataLoader[Batch]:
        return DataLoader(
            images,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=passed_on,
            persistent_workers=self.num_workers > 0,
        )


class CocoObjects(CocoLayout, ObjectsDataModule):
    """COCO, or any data set in its layout, with images as they are; masks of the objects if they are asked for.

    Parts, classes and crowds are those of `CocoDetection`, which brings images to one size.

    Args:
        root: the folder that the names below are relative to.
        masks: read masks too; needs faster-coco-eval.
        train_images: folder of the training images.
        train_annotations: their json.
        test_images: folder of the test images.
        test_annotations: their json.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.
        transform: of torchvision's v2, on training images, their boxes and masks, `RandomHorizontalFlip` say.

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
        """Return the training images and what is known of them; raises as `CocoDetection`'s."""
        return self._annotated(self._labelled_train(self.masks))

    def read_test(self) -> Annotated:
        """Return the test images and what is known of them; raises as `CocoDetection`'s."""
        return self._annotated(self._labelled_test(self.masks))

    def _annotated(self, labelled: list[Labelled]) -> Annotated:
        return [(each.file, Polygons(each) if self.masks else Shares(each)) for each in labelled]


class YoloObjects(YoloLayout, ObjectsDataModule):
    """Images as they are, in images/…, and boxes in text files in labels/…, in the layout of `YoloDetection`.

    Args:
        root: the folder that holds images/ and labels/.
        train_images: folder of the training images, in root.
        test_images: folder of the test images, in root.
        num_classes: how many classes there are; 80 for COCO. Compared with data.yaml or classes.txt in root, if there
            is one.
        names: a name for each class; by default it is called by its index.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: training images held out for validation.
        seed: seed of that draw.
        transform: of torchvision's v2, on training images and their boxes, `RandomHorizontalFlip` say.
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
        """Return the training images and what is known of them; raises as `YoloDetection`'s."""
        return [(each.file, Shares(each)) for each in self._labelled_train()]

    def read_test(self) -> Annotated:
        """Return the test images and what is known of them; raises as `YoloDetection`'s."""
        return [(each.file, Shares(each)) for each in self._labelled_test()]


class PennFudan(ObjectsDataModule):
    """170 photographs with 423 pedestrians, whose boxes are those of their masks; small enough to train a detector on.

    Pictures lie in PNGImages/ as downloaded, or in images/, and masks in PedMasks/ as NAME_mask.png, or in masks/ as
    NAME.png. The data set has no parts of its own: `test_size` images are drawn by the seed.

    Args:
        root: the folder that holds both.
        test_size: images held out for the test.
        batch_size: images per batch.
        num_workers: processes that decode; about one per CPU core.
        val_size: images held out for validation, of those that are left.
        seed: seed of both draws.
        transform: of torchvision's v2, on training images, their boxes and masks, `RandomHorizontalFlip` say.

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
        self.root = Path(root).expanduser().absolute()
        self.test_size = test_size

    def read_train(self) -> Annotated:
        """Return all images that are not for the test, and their masks.

        Raises:
            DataError: images or masks are missing.
        """
        return self._parts[0]

    def read_test(self) -> Annotated:
        """Return the images held out for the test, and their masks.

        Raises:
            DataError: images or masks are missing.
        """
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[Annotated, Annotated]:
        images, masks = self._folder("PNGImages", "images"), self._folder("PedMasks", "masks")
        files = find_images(images)
        annotated: Annotated = [(file, IdMask(_mask_of(file, masks))) for file in files]
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


def _images(annotated: Annotated, transform: nn.Module | None = None) -> ObjectImages:
    return ObjectImages([file for file, _ in annotated], [known for _, known in annotated], transform)


def as_it_is(image: Image.Image) -> Image.Image:
    """Return an image as it is."""
    return image
