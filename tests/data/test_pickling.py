"""Spawned workers are sent data sets, views and transforms as pickles, and read from them what their parent would."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import splitlearn.data as data_room
from splitlearn.data import (
    Cifar10,
    CocoDetection,
    CocoObjects,
    CropFlip,
    Digits,
    FolderSegmentation,
    ImageDataModule,
    ImageFolder,
    ImageNet,
    LabelledImages,
    LetterboxPhotos,
    PennFudan,
    Photos,
    VocSegmentation,
    YoloDetection,
    YoloObjects,
)
from splitlearn.outputs import Boxes

PARTS = ("train", "val")


def write(file: Path, pixels: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures a part, in every layout."""
    noise = np.random.default_rng(0)
    ids = np.zeros((10, 12))
    ids[2:6, 3:9] = 1
    for n, part in ((n, part) for part in PARTS for n in range(4)):
        picture = noise.integers(0, 256, (10, 12, 3))
        for place in (f"{part}/class{n % 2}", f"images/{part}", "PNGImages", "JPEGImages"):
            write(tmp_path / place / f"{part}{n}.{'jpg' if place == 'JPEGImages' else 'png'}", picture)
        for place in (f"masks/{part}", "PedMasks", "SegmentationClass"):
            write(tmp_path / place / f"{part}{n}.png", ids)
        label = tmp_path / f"labels/{part}/{part}{n}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"{n % 2} .5 .5 .5 .4")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for part in PARTS:
        names = [f"{part}{n}" for n in range(4)]
        (lists / f"{part}.txt").write_text("\n".join(names))
        content = {
            "images": [
                {"id": n, "file_name": f"{name}.png", "width": 12, "height": 10} for n, name in enumerate(names)
            ],
            "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
            "annotations": [
                {"image_id": n, "category_id": n % 2, "bbox": [3, 2, 6, 4], "segmentation": [[3, 2, 9, 2, 9, 6, 3, 6]]}
                for n in range(4)
            ],
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
    rows = [f"train/class{n % 2}/train{n}.png,{n % 2}" for n in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class_index", *rows]))
    return tmp_path


class MadeUp(Cifar10):
    """CIFAR-10 in the form in which it is read."""

    def _read(self, train: bool) -> Any:
        return Digits().load_test().dataset  # type: ignore[attr-defined]


IMAGES = {"train_images": "images/train", "test_images": "images/val"}
JSONS = {**IMAGES, "train_annotations": "train.json", "test_annotations": "val.json"}
MODULES: dict[str, Callable[[Path], ImageDataModule]] = {
    "Digits": lambda root: Digits(train_transform=CropFlip()),
    "Cifar10": lambda root: MadeUp(root, val_size=9),
    "ImageFolder": lambda root: ImageFolder(root, 8, val_size=1),
    "ImageFolder in memory": lambda root: ImageFolder(root, 8, val_size=1, in_memory=True),
    "ImageNet": lambda root: ImageNet(root, 8, 9, val_size=1),
    "LabelledImages": lambda root: LabelledImages(root, num_classes=2, train_size=2),
    "Photos": lambda root: Photos(root / "images", 8, val_size=1, test_size=1, batch_size=2),
    "LetterboxPhotos": lambda root: LetterboxPhotos(root / "images", 8, val_size=1, test_size=1, batch_size=2),
    "CocoDetection": lambda root: CocoDetection(root, 16, **JSONS, val_size=1),  # type: ignore[arg-type]
    "YoloDetection": lambda root: YoloDetection(root, 16, **IMAGES, num_classes=2, val_size=1),  # type: ignore[arg-type]
    "CocoObjects": lambda root: CocoObjects(root, True, **JSONS, val_size=1),  # type: ignore[arg-type]
    "YoloObjects": lambda root: YoloObjects(root, **IMAGES, num_classes=2, val_size=1),  # type: ignore[arg-type]
    "PennFudan": lambda root: PennFudan(root, test_size=2, val_size=1, transform=v2.RandomHorizontalFlip()),
    "VocSegmentation": lambda root: VocSegmentation(root, image_size=8, val_size=1),
    "FolderSegmentation": lambda root: FolderSegmentation(root, {"a": 0, "b": 1}, image_size=8, val_size=1),
}


def content(item: Any) -> list[Any]:
    """Return what an item holds, to be compared."""
    if isinstance(item, Boxes):
        return [None if t is None else t.tolist() for t in (item.xyxy, item.labels, item.crowd, item.masks)]
    return [content(each) for each in item] if isinstance(item, (tuple, list)) else item.tolist()


@pytest.mark.filterwarnings("ignore:.*(is|are) ignored")
@pytest.mark.parametrize("name", MODULES)
def test_spawned_workers_read_what_their_parent_would(root: Path, name: str) -> None:
    data = MODULES[name](root)
    data.setup()
    for part in ("train", "val", "test"):
        images: Any = data._part(part)
        sent = pickle.loads(pickle.dumps(images))
        assert len(sent) == len(images) > 0
        torch.manual_seed(0)
        first = content(images.__getitems__([0]))
        torch.manual_seed(0)
        assert content(sent.__getitems__([0])) == first


@pytest.mark.parametrize("name", MODULES)
def test_views_and_modules_are_sent_too(root: Path, name: str) -> None:
    """Processes that are started for training are sent the module itself."""
    data = MODULES[name](root)
    sent: ImageDataModule = pickle.loads(pickle.dumps(data))
    picture = Image.open(root / "PNGImages/train0.png")
    view = pickle.loads(pickle.dumps(data.eval_view()))
    assert view(picture).tobytes() == sent.eval_view()(picture).tobytes()
    assert sent.class_names == data.class_names


def test_every_module_is_here() -> None:
    found = (getattr(data_room, name) for name in data_room.__all__)
    modules = {each.__name__ for each in found if isinstance(each, type) and issubclass(each, ImageDataModule)}
    modules -= {"Videos", "LetterboxVideos"}  # whose frames are decoded in their order, by the process that tests
    assert {name for name in modules if not name.endswith("DataModule")} == {name.split()[0] for name in MODULES}
