"""Batches of images with similar aspect ratios, to reduce padding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from torch.utils.data import BatchSampler, Sampler

__all__ = ["AspectBatches", "aspect_groups"]


class AspectBatches(BatchSampler):
    """Batches of images from one group, in the order of the sampler; the last batches mix the remaining images.

    Every index of the sampler occurs once, and the number of batches is the same as without groups, so that all
    processes of a distributed training have the same number of steps.

    Args:
        sampler: order of the images; Lightning replaces it by the part of a process.
        batch_size: images per batch.
        drop_last: drop a last batch that is not full.
        groups: group of every image, by its index.
    """

    def __init__(
        self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool, groups: Sequence[int]
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.groups = groups

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices."""
        open_batches: dict[int, list[int]] = {}
        for index in self.sampler:
            batch = open_batches.setdefault(self.groups[index], [])
            batch.append(index)
            if len(batch) == self.batch_size:
                yield open_batches.pop(self.groups[index])
        rest = [index for group in sorted(open_batches) for index in open_batches[group]]
        for start in range(0, len(rest), self.batch_size):
            batch = rest[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


def aspect_groups(shapes: Iterable[tuple[int, int]], steps: int = 3) -> list[int]:
    """Return a group for each image, by its ratio of width to height on a logarithmic scale from 1/2 to 2.

    Args:
        shapes: height and width of the images.
        steps: number of groups per factor of two; two more groups hold narrower and wider images.

    Reference:
        The grouping of torchvision's detection references, `--aspect-ratio-group-factor 3`.
    """
    return [min(max(math.floor(steps * math.log2(width / height)), -steps - 1), steps) for height, width in shapes]
