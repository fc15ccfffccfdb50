"""Handwritten digits of scikit-learn, without download, for tutorials and tests."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, Subset

from splitlearn.data.base import Batch, ImageDataModule, split_indices
from splitlearn.data.images import TensorImages

__all__ = ["Digits"]

TEST_SIZE = 297


class Digits(ImageDataModule):
    """1797 digits of 8 × 8 pixels, enlarged bilinearly to 3 × 32 × 32 grey RGB for CIFAR backbones.

    297 test images are the same for every `seed`; the other 1500 are for training and validation.

    Args:
        batch_size: images per batch.
        num_workers: processes that prepare batches.
        val_size: training images held out for validation.
        seed: seed for the choice of these images.
        train_transform: augmentation of training batches; see `ImageDataModule`. `CropFlip` is unsuitable, since
            mirrored digits are unreadable.

    Reference: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits.
    """

    class_names = tuple("0123456789")
    image_shape = (3, 32, 32)

    def __init__(
        self,
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int = 300,
        seed: int = 0,
        train_transform: nn.Module | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, val_size, seed, train_transform)

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        """Return 1500 − val_size training images and val_size validation images."""
        images, (kept, _) = _digits()
        train = TensorImages(images.images[kept], images.labels[kept])
        return self._hold_out(train, train)

    def load_test(self) -> Dataset[Batch]:
        """Return the 297 test images."""
        images, (_, test) = _digits()
        return Subset(images, test)


def _digits() -> tuple[TensorImages, tuple[list[int], list[int]]]:
    """Return all images, and the indices of the training and the test images."""
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    grey = torch.from_numpy(digits.images).float()[:, None] / 16
    enlarged = F.interpolate(grey, scale_factor=4, mode="bilinear", align_corners=False)
    images = (enlarged * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return TensorImages(images, torch.from_numpy(digits.target).long()), split_indices(len(images), TEST_SIZE, seed=0)
