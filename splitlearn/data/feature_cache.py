"""Cache of the features of a frozen head on disk, computed once for all trials of a sweep."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from filelock import FileLock
from lightning import LightningDataModule
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from splitlearn.data.base import ImageDataModule, leaves_one, passed_on
from splitlearn.data.images import DataError
from splitlearn.data.row_order import RowOrder
from splitlearn.files import size_text, write_json
from splitlearn.outputs import Features

Head: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]

PRECISIONS = ("float32", "float16", "uint8")
MEASURED, EXACT = ("val", "test"), "float32"  # parts measured with real payloads, and their precision
PARTS = ("train", "val", "test")
COMPLETE = "cache.json"  # written last, so a folder without it is incomplete
SPARE = 1 << 28  # bytes of the disk to leave free


@dataclass(frozen=True)
class CacheInfo:
    """Facts about a cache of features, stored beside them.

    Attributes:
        precision: type of stored floats of training images; validation and test images have float32.
        views: number of differently augmented copies of each training image.
        images: number of images of each part: train, val, test.
        pixels: height × width of an image.
        floats: for each tensor that crosses the cut, whether it holds floats; integers are stored unchanged.
        target_shape: shape of an image's target: [] for a class, [H, W] for a mask.
        bytes: size on disk in bytes.
        relative_error: root mean square of the storage error divided by that of the features, of the worst tensor; 0
            for float32.
        greatest_error: largest absolute storage error, in the unit of the features.
    """

    precision: str
    views: int
    images: dict[str, int]
    pixels: int
    floats: list[bool]
    target_shape: list[int]
    bytes: int
    relative_error: float
    greatest_error: float


def cache_features(folder: Path, data: ImageDataModule, head: Head, precision: str, views: int = 1) -> CacheInfo:
    """Write the features of all images to a folder, unless it is complete; one process computes, others wait.

    float32 is exact, float16 rounds, uint8 has 256 even levels between the extremes of each image and tensor. Features
    of validation and test images are always float32, so that results are the same as without a cache. A call completes
    a folder that an interrupted call has left incomplete.

    Args:
        folder: folder for this head, these data and this precision only; created if absent.
        data: images with labels or masks, and the augmentation of training images.
        head: network from images in [0, 1] to crossing tensors, on any device.
        precision: "float32", "float16" or "uint8".
        views: number of differently augmented copies of every training image; 1 without augmentation.

    Raises:
        ValueError: if `precision` or `views` is not legal.
        DataError: if the disk has too little space; nothing is written then.
    """
    if precision not in PRECISIONS or views < 1:
        raise ValueError(f"features are stored as {', '.join(PRECISIONS)} in 1 or more views, got {precision}, {views}")
    if not data.augments:
        views = 1
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not is_complete(folder):
            with torch.random.fork_rng():  # the same random numbers follow, whether the cache existed or not
                _Writer(folder, data, head, precision, views).write()
    return read_info(folder)


def is_complete(folder: Path) -> bool:
    """Return whether a folder holds a complete cache."""
    try:
        info = read_info(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return sum(f.stat().st_size for f in folder.glob("*.npy")) == info.bytes


def read_info(folder: Path) -> CacheInfo:
    """Return the record of a cache; raises FileNotFoundError if there is none."""
    return CacheInfo(**json.loads((folder / COMPLETE).read_text()))


class _Writer:
    """Fills one folder."""

    def __init__(self, folder: Path, data: ImageDataModule, head: Head, precision: str, views: int) -> None:
        self.folder, self.data, self.head = folder, data, head
        self.precision, self.views = precision, views
        self.squares: dict[int, list[float]] = {}  # sums of squared errors, and of squares, of each tensor
        self.greatest = 0.0

    def write(self) -> None:
        (self.folder / COMPLETE).unlink(missing_ok=True)
        for left in self.folder.glob("*.npy"):
            left.unlink()
        self.data.prepare_data()
        self.data.setup()
        sizes = {part: self.data.size(part) for part in PARTS}
        first, target = next(self.data.batches("test"))
        if not isinstance(target, Tensor):
            raise DataError(
                "features are cached with labels or masks, and these data have neither: train without a cache"
            )
        with torch.inference_mode():
            like = self.head(first[:1])
        self._check_room(sizes, [*like, target[:1]])
        for part in PARTS:
            views = self.views if part == "train" else 1
            self._write_part(part, sizes[part], views, like, target)
        info = CacheInfo(
            precision=self.precision,
            views=self.views,
            images=sizes,
            pixels=math.prod(self.data.image_shape[1:]),
            floats=[t.is_floating_point() for t in like],
            target_shape=list(target.shape[1:]),
            bytes=sum(f.stat().st_size for f in self.folder.glob("*.npy")),
            relative_error=max((math.sqrt(e / s) for e, s in self.squares.values() if s), default=0.0),
            greatest_error=self.greatest,
        )
        write_json(self.folder / COMPLETE, asdict(info))

    def _check_room(self, sizes: dict[str, int], like: Sequence[Tensor]) -> None:
        images = {part: sizes[part] * (self.views if part == "train" else 1) for part in PARTS}
        size = {part: sum(t.numel() * np.dtype(self._kind(t, part)).itemsize for t in like) for part in PARTS}
        needed = sum(images[part] * size[part] for part in PARTS)
        free = shutil.disk_usage(self.folder).free
        if needed + SPARE > free:
            raise DataError(
                f"the features of {sum(images.values()):,} images need {size_text(needed)}, {self.folder} has "
                f"{size_text(free)}, of which {size_text(SPARE)} stay free: free some space, use another folder, "
                "uint8, or fewer views"
            ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def _kind(self, tensor: Tensor, part: str) -> str:
        """Return the type in which features like `tensor` are stored."""
        if tensor.is_floating_point():
            return EXACT if part in MEASURED else self.precision
        return str(tensor.dtype).removeprefix("torch.")

    def _write_part(self, part: str, size: int, views: int, like: Sequence[Tensor], target: Tensor) -> None:
        def made(name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
            return _room_taken(self.folder / f"{part}.{name}.npy", kind, shape)

        kept = [made(str(i), (views * size, *t.shape[1:]), self._kind(t, part)) for i, t in enumerate(like)]
        scales = [made(f"scale{i}", (views * size, 2), "float32") for i in range(len(like))]
        targets = made("targets", (views * size, *target.shape[1:]), self._kind(target, "targets"))
        for view in range(views):
            torch.manual_seed(view)
            position = view * size
            batches = self.data.batches(part, augmented=part == "train")
            total = math.ceil(size / self.data.batch_size)
            title = f"Features of {part}" + (f", view {view + 1} of {views}" if views > 1 else "")
            for images, truth in track(batches, title, total, transient=True):
                with torch.inference_mode():
                    features = [t.cpu().contiguous() for t in self.head(images)]
                end = position + len(images)
                for i, tensor in enumerate(features):
                    kept[i][position:end], scales[i][position:end] = self._stored(i, tensor, self._kind(tensor, part))
                targets[position:end] = truth.numpy()  # for every view, since masks are cropped with their images
                position = end
        for array in (*kept, *scales, targets):
            array.flush()  # type: ignore[attr-defined]

    def _stored(self, index: int, tensor: Tensor, kind: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return a batch as stored, of type `kind`, and (lowest value, step) of each image."""
        if not tensor.is_floating_point():
            return tensor.numpy(), np.zeros((len(tensor), 2), np.float32)
        tensor = tensor.float()
        low, high = (ends[:, None] for ends in torch.aminmax(tensor.flatten(1), dim=1))
        scale = torch.cat([low, (high - low) / 255], dim=1)
        if kind == "uint8":
            step = torch.where(high > low, scale[:, 1:], 1.0)
            stored = ((tensor.flatten(1) - low) / step).round().to(torch.uint8).view_as(tensor)
        else:
            stored = tensor.to(getattr(torch, kind))
        if not bool(stored.isfinite().all() & tensor.isfinite().all()):
            raise DataError(
                "features hold NaN or infinity, or exceed the range of float16: store them as float32 or uint8, "
                "or check weights and normalization"
            )
        if kind == "float32":
            return stored.numpy(), scale.numpy()  # exact, and not counted in the stated error
        error = restored(stored, scale) - tensor
        sums = self.squares.setdefault(index, [0.0, 0.0])
        sums[0] += float(error.double().square().sum())
        sums[1] += float(tensor.double().square().sum())
        self.greatest = max(self.greatest, float(error.abs().max()))
        return stored.numpy(), scale.numpy()


def _room_taken(path: Path, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a new array in an allocated file, since a write to a full disk would kill the process.

    Raises DataError if the disk has too little space.
    """
    array: NDArray[Any] = open_memmap(path, "w+", kind, shape)
    if hasattr(os, "posix_fallocate"):  # Linux
        try:
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DataError(
                f"the disk of {path.parent} is full: free some space, use another folder, uint8, or fewer views"
            ) from error
    return array


def restored(stored: Tensor, scale: Tensor) -> Tensor:
    """Return stored features as float32; uint8 levels need `scale`, (lowest value, step) of each image, `(B, 2)`."""
    if stored.is_floating_point():
        return stored.float()
    low, step = (scale[:, i].view(-1, *[1] * (stored.dim() - 1)) for i in range(2))
    return low + step * stored.float()


class _KeptFeatures(Dataset[Any]):
    """One part of a cache, mapped into memory, by row: view v of image i is row `v · images + i`."""

    def __init__(self, folder: Path, part: str, info: CacheInfo) -> None:
        def mapped(name: str) -> NDArray[Any]:
            array: NDArray[Any] = np.load(folder / f"{part}.{name}.npy", mmap_mode="r")
            return array

        self.tensors = [mapped(str(i)) for i in range(len(info.floats))]
        self.scales = [mapped(f"scale{i}") for i in range(len(info.floats))]
        self.targets = mapped("targets")
        self.images = info.images[part]
        self.views = len(self.targets) // max(self.images, 1)

    def __len__(self) -> int:
        return self.images

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        rows = np.asarray(indices)
        tensors, scales = ([torch.from_numpy(a[rows]) for a in arrays] for arrays in (self.tensors, self.scales))
        return tensors, scales, torch.from_numpy(self.targets[rows])


class CachedFeatures(LightningDataModule):
    """Data module of cached features: batches of `Features` with labels or masks.

    Training batches are shuffled; validation and test batches have the order of the images. Of several cached views of
    a training image, one is drawn at each use.

    Args:
        folder: folder that `cache_features` has filled.
        batch_size: images per batch.
        seed: seed of order and views of training images, which then depend on nothing but seed and epoch; None draws
            them from torch's global generator, as image loaders do.

    Raises:
        DataError: if the folder holds no complete cache.
    """

    def __init__(self, folder: Path, batch_size: int = 128, seed: int | None = None) -> None:
        super().__init__()
        if not is_complete(folder):
            raise DataError(f"{folder} holds no complete cache of features: call cache_features")
        self.folder, self.batch_size, self.seed = folder, batch_size, seed
        self.info = read_info(folder)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return validation batches."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return test batches."""
        return self._loader("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; Lightning's own method inspects every object and is as slow as a small layer."""
        tensors, scales, targets = batch
        moved = ([t.to(device, non_blocking=True) for t in part] for part in (tensors, scales))
        return *moved, targets.to(device, non_blocking=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Features, Tensor]:
        """Return a batch with its stored features converted to float32, on the device."""
        tensors, scales, targets = batch
        kinds = zip(tensors, scales, self.info.floats, strict=True)
        return Features(tuple(restored(t, s) if floats else t for t, s, floats in kinds), self.info.pixels), targets

    def _loader(self, part: str, shuffle: bool = False) -> DataLoader[Any]:
        features = _KeptFeatures(self.folder, part, self.info)
        return DataLoader(
            features,
            batch_size=self.batch_size,
            sampler=self._order(features) if shuffle else None,
            drop_last=shuffle and leaves_one(features, self.batch_size, self.trainer),
            collate_fn=passed_on,
            pin_memory=torch.cuda.is_available(),
            generator=None if self.seed is None else torch.Generator(),  # so that a loader takes no other's draws
        )

    def _order(self, features: _KeptFeatures) -> RowOrder:
        """Return the order of training rows; the processes of a run, which share the images, need the same one."""
        seed, epoch = self.seed, 0
        if self.trainer is not None:
            epoch = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            if seed is None and self.trainer.world_size > 1:
                seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return RowOrder(features.images, features.views, seed, epoch)
