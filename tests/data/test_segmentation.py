"""Images and masks stay together from the file to the batch; what is wrong with them is told in one sentence."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from torchvision.datasets.voc import DATASET_YEAR_DICT
from torchvision.transforms.v2.functional import pil_to_tensor

from splitlearn.data import (
    DataError,
    FolderSegmentation,
    ImageDataModule,
    SegmentationDataModule,
    VocSegmentation,
    cache_features,
)
from splitlearn.data.masks import GREY, IdTable
from splitlearn.outputs import IGNORED

pytestmark = pytest.mark.filterwarnings("ignore:.* have no mask in ")

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSES: dict[str, int | list[int]] = {"ground": [], "cat": 17, "pets": [18, 20]}


def save(labels: Any, file: Path, mode: str = "L") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, np.uint8)).convert(mode).save(file)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Five images a part, 12 high and 20 wide, and masks of four of them: the left half is 17, the right one 18."""
    mask = np.full((12, 20), 18)
    mask[:, :10] = 17
    for part in ("train", "val"):
        for n in range(5):
            save(np.full((12, 20, 3), 40 * n), tmp_path / f"images/{part}/{n}.jpg", "RGB")
            if n:
                save(mask, tmp_path / f"masks/{part}/{n}.png")
    return tmp_path


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images in VOC's layout; person in a frame of ignored pixels."""
    root = tmp_path / "VOCdevkit/VOC2012"
    mask = np.zeros((9, 6), np.uint8)
    mask[2:7, 1:5] = IGNORED
    mask[3:6, 2:4] = 15
    for name in ("2007_a", "2007_b", "2007_c"):
        save(np.full((9, 6, 3), 100), root / f"JPEGImages/{name}.jpg", "RGB")
        image = Image.fromarray(mask)
        image.putpalette([n % 256 for n in range(768)])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image.save(root / f"SegmentationClass/{name}.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_a\n2007_b\n")
    (lists / "val.txt").write_text("2007_c\n")
    return tmp_path


def folder_data(root: Path, **options: Any) -> FolderSegmentation:
    given: dict[str, Any] = {"classes": CLASSES, "image_size": 20, "val_size": 1, "batch_size": 3} | options
    return FolderSegmentation(root, **given)


def test_folders_side_by_side(folders: Path) -> None:
    data = folder_data(folders)
    assert data.class_names == ("ground", "cat", "pets")
    assert (data.num_classes, data.image_shape) == (3, (3, 20, 20))
    data.setup()
    assert [data.size(part) for part in ("train", "val", "test")] == [3, 1, 4]
    raw = next(iter(data.test_dataloader()))
    assert (raw[0].dtype, raw[1].dtype) == (torch.uint8, torch.uint8)
    images, masks = data.on_after_batch_transfer(raw, 0)
    assert (images.shape, masks.shape) == ((3, 3, 20, 20), (3, 20, 20))
    assert images[1, :, 5, 5].tolist() == pytest.approx([80 / 255] * 3)  # numbers follow names, from 1 on
    assert (masks[0, :12, :10] == 1).all()
    assert (masks[0, :12, 10:] == 2).all()
    assert (masks[0, 12:] == IGNORED).all()
    assert (images[0, :, 12:] == GREY / 255).all()
    shown = data.eval_view()(Image.open(folders / "images/val/1.jpg"))
    assert torch.equal(pil_to_tensor(shown), raw[0][0])


def test_voc_as_the_archive_unpacks(voc: Path) -> None:
    for root in (voc, voc / "VOCdevkit/VOC2012"):
        data = VocSegmentation(root, image_size=9, val_size=1)
        assert (data.class_names[0], data.class_names[15], data.num_classes) == ("background", "person", 21)
        data.setup()
        assert [data.size(part) for part in ("train", "val", "test")] == [1, 1, 1]
        _, masks = next(data.batches("test"))
        assert masks.shape == (1, 9, 9)
        assert masks[0, 4].tolist() == [0, 255, 15, 15, 255, 0, 255, 255, 255]
        data.prepare_data()  # nothing to download


def test_training_images_are_other_ones_each_time_and_test_images_the_same(folders: Path) -> None:
    data = folder_data(folders, image_size=12)
    data.setup()
    assert data.augments
    views = [torch.cat([masks for _, masks in data.batches("train")]) for _ in range(4)]
    assert len({view.numpy().tobytes() for view in views}) > 1
    for part in ("val", "test"):
        first, second = (torch.cat([masks for _, masks in data.batches(part)]) for _ in range(2))
        assert torch.equal(first, second)
    held_out, trained = (
        {pair.mask.name for pair in (subset.dataset.pairs[i] for i in subset.indices)}  # type: ignore[union-attr]
        for subset in (data._val, data._train)
    )
    assert len(held_out | trained) == 4
    assert not held_out & trained


@pytest.mark.parametrize(
    ("others", "ignored", "expected"),
    [(None, (255,), [1, 2, 2, IGNORED]), (0, (0, 255), [1, 2, 2, 0, IGNORED]), (255, (), [1, 2, 2, IGNORED])],
)
def test_ids_become_classes(tmp_path: Path, others: int | None, ignored: tuple[int, ...], expected: list[int]) -> None:
    ids = [17, 18, 20, 255] if others is None else [17, 18, 20, 99, 0][: len(expected)]
    save([ids], tmp_path / "m.png")
    assert IdTable(CLASSES, others, ignored).read(tmp_path / "m.png").tolist() == [expected]


@pytest.mark.parametrize("mode", ["1", "P", "I;16"])
def test_masks_of_every_kind(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 1], [1, 0]], {"1": bool, "P": np.uint8, "I;16": np.uint16}[mode])
    large = 40_000 if mode == "I;16" else 1
    image = Image.fromarray(labels * large if mode == "I;16" else labels)
    if mode == "P":
        image.putpalette([9] * 768)
    image.save(tmp_path / "m.png")
    found = IdTable({"a": 0, "b": large}).read(tmp_path / "m.png")
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [1, 0]]


def shrink(root: Path) -> None:
    save(np.full((12, 19), 17), root / "masks/val/3.png")


def recolour(root: Path) -> None:
    save(np.zeros((12, 20, 3)), root / "masks/val/3.png", "RGB")


def empty_masks(root: Path) -> None:
    for file in (root / "masks/val").iterdir():
        file.unlink()


def read_all(data: ImageDataModule) -> None:
    data.setup("test")
    list(data.batches("test"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: shutil.rmtree(root / "images/val"), r"there is no .*images/val: set root and the names"),
        (lambda root: shutil.rmtree(root / "masks/val"), r"there is no .*masks/val: set root and the names"),
        (empty_masks, r"masks/val holds no masks \(\.png\): put them there"),
        (
            lambda root: (root / "images/val/2.jpg").unlink(),
            r"masks/val/2\.png has no image in .*images/val \(1 such masks in all\): add the image or remove the mask",
        ),
        (shrink, r"3\.png has 19×12 pixels and .*3\.jpg 20×12: a mask must be as large as its image"),
        (recolour, r"3\.png holds colours \(RGB\): save it with one channel"),
        (
            lambda root: save(np.full((12, 20), 44), root / "masks/val/3.png"),
            r"3\.png has the id 44, which has no class: name it in classes or ignored, or set others",
        ),
        (lambda root: (root / "masks/val/3.png").write_text("no"), r"cannot decode .*masks/val/3\.png"),
        (lambda root: (root / "images/val/3.jpg").write_text("no"), r"cannot decode .*images/val/3\.jpg"),
    ],
)
def test_what_is_wrong_with_folders(folders: Path, damage: Callable[[Path], Any], reason: str) -> None:
    damage(folders)
    with pytest.raises(DataError, match=reason):
        read_all(folder_data(folders))


@pytest.mark.parametrize(("ids", "named"), [((0, 255), "ground"), ((1, 255), "x"), ((255, 255), "no class")])
def test_masks_whose_objects_are_ignored_are_told(folders: Path, ids: tuple[int, int], named: str) -> None:
    """Masks of 0 and 255, of which 255 is no class."""
    data = folder_data(folders, classes={"ground": 0, "x": 1})
    for file in folders.glob("masks/*/*.png"):
        save(np.repeat(ids, 120).reshape(12, 20), file)
    message = f"masks hold only {named} and ignored pixels: .* not 0 and 255"
    with pytest.raises(DataError, match=f"masks/train: {message}"):
        data.setup("fit")
    with pytest.warns(UserWarning, match=f"masks/val: {message}"):
        data.setup("test")
    for part in ("train", "val"):
        save(np.arange(240).reshape(12, 20) % 2, folders / f"masks/{part}/4.png")  # one of them has both classes
    data.setup()


def test_one_class_beside_an_id_that_is_ignored_on_purpose(folders: Path) -> None:
    folder_data(folders, classes={"ground": [], "cat": 17}, ignored=(18,)).setup()


def test_images_to_train_on_and_to_test_are_others(voc: Path) -> None:
    data = VocSegmentation(voc, val_size=1, test_list="train")
    with pytest.warns(UserWarning, match=r"2 of the images to train on are in .*train\.txt as well.*: set train_list"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda root: shutil.rmtree(root / "JPEGImages"),
            r"there is no .*JPEGImages: set root to the folder that holds",
        ),
        (lambda root: shutil.rmtree(root / "SegmentationClass"), r"there is no .*SegmentationClass: set root"),
        (
            lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(),
            r"there is no .*ImageSets/Segmentation/val\.txt: put the list there, or name another one",
        ),
        (lambda root: (root / "ImageSets/Segmentation/val.txt").write_text("\n"), r"val\.txt lists no images"),
        (
            lambda root: (root / "ImageSets/Segmentation/val.txt").write_text("a b\na"),
            r"val\.txt lists a more than once: list each image once",
        ),
        (
            lambda root: (root / "SegmentationClass/2007_c.png").unlink(),
            r"SegmentationClass/2007_c\.png, listed in .*val\.txt, is missing \(1 in all\)",
        ),
        (lambda root: (root / "JPEGImages/2007_c.jpg").unlink(), r"JPEGImages/2007_c\.jpg, listed in .*, is missing"),
    ],
)
def test_what_is_wrong_with_voc(voc: Path, damage: Callable[[Path], Any], reason: str) -> None:
    damage(voc / "VOCdevkit/VOC2012")
    with pytest.raises(DataError, match=reason):
        VocSegmentation(voc).setup("test")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"classes": {"one": 0}}, "masks need 2 to 255 classes, got 1"),
        ({"classes": {"a": 1, "b": [2, 1]}}, "have one class each; got 1"),
        ({"classes": {"a": 1, "b": 2}, "ignored": (2,)}, "have one class each; got 2"),
        ({"classes": {"a": 1, "b": -1}}, r"must lie in 0…65535 .*; got -1"),
        ({"others": 3}, r"others must be a class, 0…2, 255 to ignore them, or null; got 3"),
        ({"image_size": (0, 9)}, r"image_size must be at least 1, got \(0, 9\)"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        folder_data(tmp_path, **options)


def test_voc_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError(ConnectionRefusedError(111, "Connection refused"))

    monkeypatch.setattr(importlib.import_module("splitlearn.data.finding"), "urlopen", refuse)
    with pytest.raises(DataError, match=r"cannot download http.*VOCtrainval.*refused.*unpack that archive into"):
        VocSegmentation(tmp_path, download=True).prepare_data()
    with pytest.raises(DataError, match="or download to true"):
        VocSegmentation(tmp_path).setup("test")


def test_voc_is_downloaded_once(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive comes from a local address; unpacking and checking are torchvision's."""
    archive = tmp_path / "served/VOCtrainval.tar"
    archive.parent.mkdir()
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt").write_text("2007_a\n")
    with tarfile.open(archive, "w") as tar:
        tar.add(voc / "VOCdevkit", "VOCdevkit")
    handler = partial(SimpleHTTPRequestHandler, directory=archive.parent)
    server = ThreadingHTTPServer(("localhost", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    source = {
        "url": f"http://localhost:{server.server_port}/{archive.name}",
        "filename": archive.name,
        "md5": hashlib.md5(archive.read_bytes()).hexdigest(),
        "base_dir": "VOCdevkit/VOC2012",
    }
    monkeypatch.setitem(DATASET_YEAR_DICT, "2012", source)
    data = VocSegmentation(tmp_path / "fetched", download=True, image_size=9, val_size=1)
    data.prepare_data()
    server.shutdown()
    server.server_close()
    data.prepare_data()
    data.setup()
    assert [data.size(part) for part in ("train", "val", "test")] == [1, 1, 1]


def test_the_cache_keeps_the_mask_of_each_view(folders: Path, tmp_path: Path) -> None:
    data = folder_data(folders, image_size=8)
    info = cache_features(tmp_path / "cache", data, lambda images: (images,), "float32", views=4)
    assert (info.views, info.images["train"], info.target_shape) == (4, 3, [8, 8])
    kept = np.load(tmp_path / "cache/train.targets.npy")
    assert kept.shape == (12, 8, 8)
    assert len({mask.tobytes() for mask in kept}) > 3


def config(name: str, **options: Any) -> ImageDataModule:
    settings_ = yaml.safe_load((CONFIGS / f"data/{name}.yaml").read_text())
    settings_["init_args"] |= options
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    built: ImageDataModule = parser.instantiate(parser.parse_object({"data": settings_})).data
    return built


def test_by_config() -> None:
    coco, voc_ = config("coco_masks"), config("voc")
    assert isinstance(coco, FolderSegmentation)
    assert isinstance(voc_, VocSegmentation)
    assert coco.class_names == voc_.class_names
    assert coco.image_shape == voc_.image_shape == (3, 513, 513)


def test_real_masks_by_config(shared_data: Path, tmp_path: Path) -> None:
    """Six images of COCO with COCO's ids; ids that the file lists as things of VOC's become its classes."""
    names = ("000000000139", "000000000285", "000000000632", "000000000724", "000000000776", "000000000785")
    with zipfile.ZipFile(shared_data / "coco256.zip") as archive:
        wanted = [n for n in archive.namelist() if "val2017" in n and Path(n).stem in names]
        archive.extractall(tmp_path, [n for n in wanted if n.endswith((".jpg", ".png"))])
    data = config("coco_masks", root=str(tmp_path), batch_size=3)
    assert isinstance(data, SegmentationDataModule)
    data.setup("test")
    images, masks = (torch.cat(parts) for parts in zip(*data.batches("test"), strict=True))
    assert (images.shape, masks.shape) == ((6, 3, 513, 513), (6, 513, 513))
    found = [set(mask.flatten().tolist()) for mask in masks]
    person, tv, chair, skis_are_background = 15, 20, 9, 0
    assert {person, tv, chair} <= found[0]  # a living room
    assert found[1] == {0, IGNORED}  # a bear, which VOC does not know
    assert found[5] == {person, skis_are_background, IGNORED}
    assert (masks[0, 400:] == IGNORED).all()  # wider than high, so padded below
