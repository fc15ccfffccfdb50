"""CIFAR-10 in its original, lossless form."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10

from splitlearn.data.base import Batch, ImageDataModule
from splitlearn.data.finding import absolute_path, download
from splitlearn.data.images import DataError, TensorImages

__all__ = ["Cifar10"]


class Cifar10(ImageDataModule):
    """50,000 training and 10,000 test images of 3 × 32 × 32, held in memory (184 MB).

    For CIFAR-10 as JPEG files, use `ImageFolder(root, image_size=32, in_memory=True)`. The results are not comparable:
    JPEG reduces the accuracy of a model trained on lossless images by about ten points.

    Args:
        root: folder that contains `cifar-10-batches-py`.
        download: download the data (170 MB) if they are absent.
        batch_size: images per batch.
        num_workers: processes that prepare batches; none is needed.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
        train_transform: augmentation of training batches, usually `CropFlip()`; see `ImageDataModule`.

    Reference: Krizhevsky 2009.
    """

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    image_shape = (3, 32, 32)

    def __init__(
        self,
        root: str | Path = "data",
        download: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int = 5000,
        seed: int = 0,
        train_transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, train_transform)
        self.root = root
        self.download = download

    def prepare_data(self) -> None:
        """Download the data if `download` is set, in one process only.

        Raises:
            DataError: the download failed.
        """
        root = absolute_path(self.root)
        if not self.download or (root / CIFAR10.base_folder).is_dir():
            return
        download(CIFAR10.url, root, lambda: CIFAR10(root, download=True))

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return 50,000 − val_size training images and val_size validation images."""
        images = self._read(train=True)
        return self._hold_out(images, images)

    def load_test(self) -> Dataset[Batch]:
        """Return the 10,000 test images."""
        return self._read(train=False)

    def _read(self, train: bool) -> TensorImages:
        root = absolute_path(self.root)
        try:
            data = CIFAR10(root, train=train)
        except RuntimeError as error:
            raise DataError(
                f"CIFAR-10 is missing or damaged in {root}: set download to true, or unpack {CIFAR10.url} there"
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return TensorImages(images, torch.tensor(data.targets))
