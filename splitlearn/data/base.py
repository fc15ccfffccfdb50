"""Base classes of image data modules: loaders, held-out validation images, conversion and augmentation."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from torchvision.transforms import v2

from splitlearn.data.checks import batch_of, shipped
from splitlearn.data.images import DataError, ImageSet, View

__all__ = [
    *("AnnotatedDataModule", "Batch", "FixedSizeDataModule", "ImageDataModule"),
    *("id_of_list", "passed_on", "split_indices"),
]

T = TypeVar("T")
Batch = tuple[Tensor, Any]  # images and their targets: labels `(B,)`, masks `(B, H, W)`, or `Boxes` for each image


class ImageDataModule(LightningDataModule, ABC):
    """Base class of image data sets with labels, masks or boxes.

    Models receive float32 images `(B, 3, H, W)` in [0, 1], which are not normalized: the model does that.

    ```
    loader: uint8 batch → device → float32 in [0, 1] → train_transform (training only) → model
    ```

    The loaders send uint8, a quarter of the bytes of float32, and the Trainer calls `on_after_batch_transfer` to
    convert each batch. Without a Trainer, call this method yourself:
    `images, labels = data.on_after_batch_transfer(batch, 0)`. Prediction uses the test images.

    Subclasses define `class_names`, `image_shape`, `load_train` and `load_test`.

    Args:
        batch_size: images per batch, in every loader.
        num_workers: processes that prepare batches; 0 prepares them in the main process.
        val_size: training images held out for validation, if the data have no validation images. The draw depends only
            on `seed`, so all processes and resumed runs hold out the same images.
        seed: seed for the choice of these images.
        train_transform: augmentation of training batches on the device, from and to float32 in [0, 1]. Transforms of
            torchvision apply the same random parameters to all images of a batch; use `CropFlip` for a separate draw
            per image. The transform may also return another float type, uint8 or one channel, which is converted. A
            normalized result raises DataError.

    Raises:
        ValueError: if `batch_size` or `val_size` is below 1, or `num_workers` is negative.
    """

    def __init__(
        self,
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int = 5000,
        seed: int = 0,
        train_transform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0 or val_size < 1:
            raise ValueError(
                "batch_size and val_size must be at least 1 and num_workers at least 0, "
                f"got {batch_size}, {val_size} and {num_workers}"
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_size = val_size
        self.seed = seed
        self.train_transform = train_transform
        self._train: Dataset[Batch] | None = None
        self._val: Dataset[Batch] | None = None
        self._test: Dataset[Batch] | None = None
        self._features: LightningDataModule | None = None

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by index. Known before `setup`."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (3, H, W) of every image. Known before `setup`."""

    @property
    def num_classes(self) -> int:
        """Number of classes. Known before `setup`."""
        return len(self.class_names)

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """Arguments that determine the test images, if training and test images are drawn from the same list."""
        return ()

    @property
    def drawn_from(self) -> str:
        """SHA-256 of the list that training and test images are drawn from; empty if they lie apart."""
        return ""

    @property
    def augments(self) -> bool:
        """Whether training images vary from epoch to epoch."""
        return self.train_transform is not None

    @abstractmethod
    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images, which are disjoint.

        Each data set must define `__getitems__(indices)`, which returns a collated batch: uint8 images `(B, 3, H, W)`
        and their targets (see `ImageSet`).

        Raises:
            DataError: images or targets are missing, damaged or too few.
        """

    @abstractmethod
    def load_test(self) -> Dataset[Batch]:
        """Return the test images, in a data set with `__getitems__` (see `load_train`).

        Raises:
            DataError: images or targets are missing, damaged or too few.
        """

    def eval_view(self) -> View:
        """Return the function (view) that resizes a decoded RGB image to `image_shape`, without randomness."""
        _, height, width = self.image_shape
        view: View = v2.Compose([v2.Resize(max(height, width)), v2.CenterCrop((height, width))])
        return view

    def setup(self, stage: str | None = None) -> None:
        """Read the images of a stage, once.

        Args:
            stage: "fit", "validate", "test", "predict", or None for all.

        Raises:
            DataError: the data are missing, damaged, or fewer than `val_size`.
        """
        if stage in (None, "fit", "validate") and self._train is None:
            self._train, self._val = self.load_train()
        if stage in (None, "test", "predict") and self._test is None:
            self._test = self.load_test()

    def use_features(self, features: LightningDataModule | None) -> None:
        """Train and validate on cached features of these images from now on; None returns to the images.

        Args:
            features: `CachedFeatures` of these data.
        """
        if features is not None:
            features.trainer = self.trainer
        self._features = features

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled training batches; a last batch of a single image is dropped."""
        if self._features is not None:
            cached: DataLoader[Batch] = self._features.train_dataloader()
            return cached
        return self._loader(self._train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return validation batches, always in the same order."""
        if self._features is not None:
            cached: DataLoader[Batch] = self._features.val_dataloader()
            return cached
        fits = self.trainer is not None and self.trainer.state.fn == "fit"  # needs equally many images per process
        return self._loader(self._val, sampler=None if fits else self._share(self._val))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return test batches, always in the same order; several processes divide them without repetition."""
        return self._loader(self._test, sampler=self._share(self._test))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches, labels included."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to a device; Lightning calls this."""
        if self._features is not None:
            return self._features.transfer_batch_to_device(batch, device, dataloader_idx)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert a batch to float32 in [0, 1] and, while the Trainer trains, augment it.

        Args:
            batch: images `(B, 3, H, W)` on the device, uint8, or floats in [0, 1] of a user's own data set; and their
                labels, masks or boxes, which are not changed.
            dataloader_idx: index of the loader; there is only one.
        """
        if self._features is not None:
            restored: Batch = self._features.on_after_batch_transfer(batch, dataloader_idx)
            return restored
        images, labels = batch
        images = shipped(images, self)
        if self.train_transform is not None and self.trainer is not None and self.trainer.training:
            images = batch_of(self.train_transform, images, self.trainer.fit_loop.batch_idx)
        return images, labels

    def size(self, part: str) -> int:
        """Return the number of images of a part, "train", "val" or "test"; `setup` must have read it."""
        images: Any = self._part(part)
        return len(images)

    def batches(self, part: str, augmented: bool = False) -> Iterator[Batch]:
        """Yield all batches of a part in the order of its images, in the form that models expect.

        Args:
            part: "train", "val" or "test"; `setup` must have read it.
            augmented: apply `train_transform`.
        """
        for raw, labels in self._loader(self._part(part)):
            batch = shipped(raw, self)
            if augmented and self.train_transform is not None:
                batch = batch_of(self.train_transform, batch)
            yield batch, labels

    def _part(self, part: str) -> Dataset[Batch] | None:
        return {"train": self._train, "val": self._val, "test": self._test}[part]

    def _hold_out(self, train: ImageSet, val: ImageSet) -> tuple[Subset[Batch], Subset[Batch]]:
        """Split training images, given once in the training view and once in the evaluation view."""
        kept, held_out = split_indices(len(train), self.val_size, self.seed)
        return Subset(train, kept), Subset(val, held_out)

    def _share(self, images: Dataset[Any] | None) -> Sampler[int] | None:
        """Return the sampler of this process's images; None, for all images, if there is one process."""
        if images is None or self.trainer is None or self.trainer.world_size == 1:
            return None
        count, processes = len(images), self.trainer.world_size  # type: ignore[arg-type]
        if count < processes:
            raise DataError(f"{count} images cannot be divided among {processes} processes: use {count} at most")
        return UnrepeatedDistributedSampler(images, processes, self.trainer.global_rank, shuffle=False)

    def _loader(
        self, images: Dataset[Batch] | None, shuffle: bool = False, sampler: Sampler[int] | None = None
    ) -> DataLoader[Batch]:
        if images is None:
            raise RuntimeError("call setup() before loaders are used; the Trainer does so")
        return DataLoader(
            images,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=shuffle and leaves_one(images, self.batch_size, self.trainer),
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=passed_on,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )


class AnnotatedDataModule(ImageDataModule, Generic[T]):
    """Base class of data sets whose images and annotations (boxes or masks) are listed as objects of type `T`.

    Validation images are drawn from the training list. Subclasses define `read_train`, `read_test` and `images_of`.
    """

    @abstractmethod
    def read_train(self) -> list[T]:
        """Return the training images and their annotations.

        Raises:
            DataError: folders, lists, images or annotations are missing or damaged.
        """

    @abstractmethod
    def read_test(self) -> list[T]:
        """Return the test images and their annotations; raises as `read_train`."""

    @abstractmethod
    def images_of(self, annotated: list[T]) -> Dataset[Batch]:
        """Return a data set of these images that does not augment them."""

    def augmented(self, annotated: list[T]) -> Dataset[Batch]:
        """Return a data set of these images for training."""
        return self.images_of(annotated)

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return the training and the validation images, which are disjoint."""
        annotated = self.read_train()
        kept, held_out = split_indices(len(annotated), self.val_size, self.seed)
        return self.augmented([annotated[i] for i in kept]), self.images_of([annotated[i] for i in held_out])

    def load_test(self) -> Dataset[Batch]:
        """Return the test images."""
        return self.images_of(self.read_test())


class FixedSizeDataModule(AnnotatedDataModule[T]):
    """Base class of data sets of image files that are resized to one size.

    Raises:
        ValueError: if `image_size` is below 1; or as `ImageDataModule`.
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
        """Shape (3, H, W) of every image, from `image_size`."""
        return (3, *self._size)


def leaves_one(images: Any, batch_size: int, trainer: Trainer | None) -> bool:
    """Return whether the last batch of a process would hold a single image, on which batch norm fails in training."""
    share = math.ceil(len(images) / (1 if trainer is None else trainer.world_size))
    return share > batch_size > 1 and share % batch_size == 1


def split_indices(count: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw the images to hold out; return the indices of the kept and of the held-out images, both ascending.

    Raises DataError if no image would be kept.
    """
    if not 0 < held_out < count:
        raise DataError(f"cannot hold out {held_out} of {count} training images: set val_size below {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[held_out:].sort().values.tolist(), order[:held_out].sort().values.tolist()


def id_of_list(names: Iterable[str]) -> str:
    """Return a SHA-256 of names and their order, by which a list of images is recognised."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()


def passed_on(batch: Any) -> Any:
    """Return a batch unchanged, since `ImageSet.__getitems__` has already collated it."""
    return batch
