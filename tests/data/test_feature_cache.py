"""Features on disk: what is kept, what is refused, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from splitlearn.data import CachedFeatures, CropFlip, DataError, Digits, cache_features
from splitlearn.data.feature_cache import COMPLETE, is_complete
from splitlearn.resource_errors import shortage


def head(images: Tensor) -> tuple[Tensor, ...]:
    """Two tensors and an integer one."""
    return images * 3 - 1, images.mean(dim=(2, 3)), torch.full((len(images), 2), 7)


def all_of(cache: CachedFeatures, part: str) -> tuple[list[Tensor], Tensor]:
    loader = {"train": cache.train_dataloader, "val": cache.val_dataloader, "test": cache.test_dataloader}[part]()
    batches = [cache.on_after_batch_transfer(batch, 0) for batch in loader]
    tensors = [torch.cat(parts) for parts in zip(*(features.tensors for features, _ in batches), strict=True)]
    return tensors, torch.cat([labels for _, labels in batches])


def expected(data: Digits, part: str) -> tuple[list[Tensor], Tensor]:
    batches = [(head(images), labels) for images, labels in data.batches(part)]
    return [torch.cat(p) for p in zip(*(t for t, _ in batches), strict=True)], torch.cat([t for _, t in batches])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.0), ("float16", 5e-4), ("uint8", 4e-3)])
def test_features_are_those_of_the_head(tmp_path: Path, precision: str, tolerance: float) -> None:
    data = Digits()
    info = cache_features(tmp_path, data, head, precision)
    cache = CachedFeatures(tmp_path, batch_size=100)
    for part in ("val", "test"):
        (wide, flat, whole), labels = all_of(cache, part)
        (true_wide, true_flat, true_whole), true_labels = expected(data, part)
        assert torch.equal(labels, true_labels)
        assert torch.equal(whole, true_whole)
        for found, true in ((wide, true_wide), (flat, true_flat)):
            error = float((found - true).abs().max())
            assert error == 0  # what is measured of features is measured of the images
    (wide, flat, _), _ = all_of(CachedFeatures(tmp_path, data.size("train")), "train")
    (true_wide, true_flat, _), _ = expected(data, "train")
    for found, true in ((wide, true_wide), (flat, true_flat)):
        error = float((found.sort(0).values - true.sort(0).values).abs().max())
        assert error <= info.greatest_error <= 2 * tolerance * 3
    assert (info.relative_error == 0) == (precision == "float32")
    assert info.relative_error < tolerance or not tolerance
    assert info.images == {part: data.size(part) for part in ("train", "val", "test")}
    features, _ = cache.on_after_batch_transfer(next(iter(cache.test_dataloader())), 0)
    assert features.pixels == np.prod(data.image_shape[1:])


def test_training_batches_come_in_the_order_of_the_data(tmp_path: Path) -> None:
    data = Digits(batch_size=50)
    cache_features(tmp_path, data, head, "float32")
    cache = CachedFeatures(tmp_path, batch_size=50)
    torch.manual_seed(5)
    theirs = [(head(images / 255)[0], labels) for images, labels in data.train_dataloader()]
    torch.manual_seed(5)
    mine = [cache.on_after_batch_transfer(batch, 0) for batch in cache.train_dataloader()]
    assert len(mine) == len(theirs)
    for (features, labels), (images, true) in zip(mine, theirs, strict=True):
        assert torch.equal(labels, true)
        assert torch.equal(features.tensors[0], images)


def test_views_are_augmented_each_by_itself(tmp_path: Path) -> None:
    data = Digits(train_transform=CropFlip())
    info = cache_features(tmp_path, data, head, "float16", views=3)
    assert info.views == 3
    kept = np.load(tmp_path / "train.0.npy", mmap_mode="r")
    size = data.size("train")
    assert len(kept) == 3 * size
    views = kept.reshape(3, size, -1)
    assert len({views[v].tobytes() for v in range(3)}) == 3
    targets = np.load(tmp_path / "train.targets.npy").reshape(3, size)
    assert (targets == targets[0]).all()  # augmentation moves no class
    cache = CachedFeatures(tmp_path, batch_size=size)
    torch.manual_seed(1)
    (first, *_), labels = all_of(cache, "train")
    assert len(first) == len(labels) == size
    torch.manual_seed(0)
    once = all_of(cache, "train")[0][0].sort(0).values
    assert not torch.equal(once, first.sort(0).values)  # other views


def test_random_numbers_go_on_alike_for_who_writes_and_who_finds(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        cache_features(tmp_path, Digits(train_transform=CropFlip()), head, "float16", views=2)
        states.append(torch.rand(3))
    assert torch.equal(*states)


def test_a_disk_that_fills_while_caching_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"the disk of .* is full: free some") as caught:
        cache_features(tmp_path, Digits(), head, "float16")
    assert shortage(caught.value) == "disk"
    monkeypatch.undo()
    assert not is_complete(tmp_path)
    assert cache_features(tmp_path, Digits(), head, "float16").bytes > 0


class Downloaded(Digits):
    """Has images only after they were fetched."""

    fetched = False

    def prepare_data(self) -> None:
        self.fetched = True

    def setup(self, stage: str | None = None) -> None:
        assert self.fetched
        super().setup(stage)


def test_data_are_downloaded_before_they_are_cached(tmp_path: Path) -> None:
    data = Downloaded()
    assert cache_features(tmp_path, data, lambda x: (x.mean((2, 3)),), "uint8").images["val"] == data.size("val")


def test_one_view_where_nothing_is_augmented(tmp_path: Path) -> None:
    assert cache_features(tmp_path, Digits(), head, "uint8", views=4).views == 1


def test_a_whole_cache_is_kept_and_half_a_one_made_again(tmp_path: Path) -> None:
    calls = []

    def counted(images: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(images))
        return head(images)

    first = cache_features(tmp_path, Digits(), counted, "float16")
    made = len(calls)
    assert cache_features(tmp_path, Digits(), counted, "float16") == first
    assert len(calls) == made
    (tmp_path / COMPLETE).unlink()  # as a kill leaves it
    with pytest.raises(DataError, match="holds no complete cache of features"):
        CachedFeatures(tmp_path)
    assert cache_features(tmp_path, Digits(), counted, "float16") == first
    assert len(calls) == 2 * made
    (tmp_path / "test.0.npy").write_bytes(b"short")
    assert not is_complete(tmp_path)
    (tmp_path / COMPLETE).write_text(json.dumps({"precision": "float16"}))
    assert not is_complete(tmp_path)


def test_a_disk_without_room_is_told_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(DataError, match=r"22\.1 MB, .* 1\.0 kB, of which 268\.4 MB stay free: free some") as caught:
        cache_features(tmp_path, Digits(), head, "float32")
    assert shortage(caught.value) == "disk"
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize(("precision", "value"), [("float16", 1e6), ("uint8", torch.nan), ("float32", torch.inf)])
def test_values_that_cannot_be_kept_are_told(tmp_path: Path, precision: str, value: float) -> None:
    with pytest.raises(DataError, match="hold NaN or infinity, or exceed the range of float16"):
        cache_features(tmp_path, Digits(), lambda images: (images + value,), precision)
    assert not is_complete(tmp_path)


def test_unknown_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stored as float32, float16, uint8 in 1 or more views, got int4, 1"):
        cache_features(tmp_path, Digits(), head, "int4")
