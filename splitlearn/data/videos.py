"""Data modules of videos, whose frames come in their order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms.v2.functional import pil_to_tensor

from splitlearn.data.base import Batch, ImageDataModule
from splitlearn.data.finding import absolute_path, walk
from splitlearn.data.images import CentreCrop, View
from splitlearn.data.letterbox import Letterbox
from splitlearn.data.video import VideoError, video_frames
from splitlearn.decoding import DataError
from splitlearn.outputs import Frames

__all__ = ["LetterboxVideos", "Videos", "video_batches"]

SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".wmv", ".flv"),
    *(".ogv", ".3gp", ".mxf", ".y4m", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".nut"),
}


def video_batches(path: str | Path, view: View, frames: int | None = None, batch_size: int = 16) -> Iterator[Tensor]:
    """Yield the first frames of a video, in their order, as a network takes them.

    Args:
        path: a video file.
        view: brings frames to one size.
        frames: most frames taken; None takes all.
        batch_size: most frames per batch.

    Yields:
        float32 `(B, 3, H, W)` in [0, 1].

    Raises:
        VideoError: as `video_frames`.
    """
    taken = islice(video_frames(path), frames)
    while found := list(islice(taken, batch_size)):
        yield torch.stack([_viewed(pixels, view) for pixels, _ in found]) / 255


class Videos(ImageDataModule):
    """Videos without labels, for tests of networks whose payloads depend on the frame before (`StreamTask`).

    Batches hold frames of one video in their order, the videos of a folder one after the other. In place of labels
    they have `Frames`. Frames that change their size within a video are all brought to the network's.

    Args:
        root: a video file, or a folder with videos at any depth; other files in it are ignored.
        image_size: height and width of the images: that of the network's input.
        resize: length of the shorter side before the crop at the centre, in pixels; None means image_size.
        every: take each `every`-th frame, from the first one on; a frame is then shown until the next that is taken.
        first: number of the first frame that is taken, before `every` applies.
        frames: most frames taken of each video; None takes all.
        batch_size: most frames per batch.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        resize: int | None = None,
        every: int = 1,
        first: int = 0,
        frames: int | None = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(batch_size, val_size=1)
        if every < 1 or first < 0 or (frames is not None and frames < 1):
            raise ValueError(f"every and frames are at least 1 and first at least 0, got {every}, {frames} and {first}")
        self._view: View = CentreCrop(image_size, resize)
        self.root, self.image_size, self.resize = root, image_size, resize
        self.every, self.first, self.frames = every, first, frames

    @property
    def class_names(self) -> tuple[str, ...]:
        """No names, since videos have no labels."""
        return ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (3, image_size, image_size) of every image."""
        return (3, self.image_size, self.image_size)

    def eval_view(self) -> View:
        """Return what brings frames to the size of the network's input."""
        return self._view

    def load_train(self) -> NoReturn:
        """Refuse, since a bottleneck learns from images.

        Raises:
            DataError: always.
        """
        raise DataError("videos are for `splitlearn test` alone: train with Photos, or other images")

    def load_test(self) -> Dataset[Batch]:
        """Return the videos.

        Raises:
            DataError: there is no such file or folder, or no video in it.
        """
        root = absolute_path(self.root)
        if root.is_file():
            return _Batches([root], root.parent, self)
        if not root.is_dir():
            raise DataError(f"there is no file or folder {root}: name a video, or a folder that contains videos")
        found = [file for file in walk(root) if file.suffix.lower() in SUFFIXES]
        if not found:
            raise DataError(f"{root} holds no videos ({', '.join(sorted(SUFFIXES))}): name a folder that does")
        return _Batches(found, root, self)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of frames, video after video."""
        if self._test is None:
            raise RuntimeError("call setup() before loaders are used; the Trainer does so")
        return DataLoader(self._test, batch_size=None)


class LetterboxVideos(Videos):
    """Videos as detectors see them: frames are scaled to fit a square, the rest is grey (letterbox).

    As `Videos`, except that nothing of a frame is cropped.

    Args:
        root: a video file, or a folder with videos at any depth; other files in it are ignored.
        image_size: height and width of the images: that of the network's input.
        every: take each `every`-th frame, from the first one on; a frame is then shown until the next that is taken.
        first: number of the first frame that is taken, before `every` applies.
        frames: most frames taken of each video; None takes all.
        batch_size: most frames per batch.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int = 640,
        every: int = 1,
        first: int = 0,
        frames: int | None = None,
        batch_size: int = 8,
    ) -> None:
        super().__init__(root, image_size, None, every, first, frames, batch_size)
        self._view = Letterbox((image_size, image_size))


class _Batches(IterableDataset[Any]):
    """Batches of frames of several videos, which are decoded as they are asked for."""

    def __init__(self, paths: list[Path], root: Path, data: Videos) -> None:
        self.paths, self.root, self.data = paths, root, data

    def __iter__(self) -> Iterator[tuple[Tensor, Frames]]:
        """Yield uint8 frames `(B, 3, H, W)`, and which they are.

        Raises:
            VideoError: if a video is damaged, or has no frame that is taken.
        """
        for path in self.paths:
            name, number = path.relative_to(self.root).as_posix(), 0
            taken = islice(_taken(path, self.data.first, self.data.every), self.data.frames)
            while found := list(islice(taken, self.data.batch_size)):
                images = torch.stack([_viewed(pixels, self.data.eval_view()) for pixels, _ in found])
                yield images, Frames(name, number, tuple(seconds for _, seconds in found))
                number += len(found)
            if not number:
                raise VideoError(f"{path} has no frame {self.data.first}: set first lower, or leave the video out")


def _viewed(pixels: Tensor, view: View) -> Tensor:
    viewed: Tensor = pil_to_tensor(view(Image.fromarray(pixels.numpy())))
    return viewed


def _taken(path: Path, first: int, every: int) -> Iterator[tuple[Tensor, float]]:
    """Yield each `every`-th frame from the `first` one on, shown until the next of them."""
    frames = islice(video_frames(path), first, None)
    while group := list(islice(frames, every)):
        yield group[0][0], sum(seconds for _, seconds in group)
