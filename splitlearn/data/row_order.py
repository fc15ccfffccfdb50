"""Order of the cached rows of training images in each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

__all__ = ["RowOrder"]


class RowOrder(Sampler[int]):
    """Sampler of the rows of a cache: every image once an epoch, in random order and in a random one of its views.

    Given a seed, the rows of an epoch depend on nothing but seed and epoch, whatever else draws random numbers.

    Args:
        images: number of images.
        views: rows of each image; row `v · images + i` is view v of image i.
        seed: seed of the draws; None takes them from torch's global generator, as image loaders do.
        epoch: number of the first epoch, from 0.
    """

    def __init__(self, images: int, views: int = 1, seed: int | None = None, epoch: int = 0) -> None:
        self.images, self.views, self.seed, self.epoch = images, views, seed, epoch

    def __len__(self) -> int:
        return self.images

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch; Lightning calls this, and without it epochs are counted."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        if self.seed is None:
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))  # as RandomSampler does
        else:
            (word,) = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
            generator.manual_seed(int(word))
        self.epoch += 1
        rows = torch.randperm(self.images, generator=generator)
        if self.views > 1:
            rows += self.images * torch.randint(self.views, (self.images,), generator=generator)
        yield from rows.tolist()
