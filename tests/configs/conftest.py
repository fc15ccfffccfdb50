"""Small data for shipped configs, and notes of what they measure."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from splitlearn.tasks.payload import PayloadTask
from tests.configs.runs import Measured


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of small JPEG images, train/ and test/."""
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 4), ("test", 2)):
        for label in range(10):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                noise = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
                Image.fromarray(noise).save(folder / f"{i}.jpg")
    return root


@pytest.fixture(scope="session")
def thousand_classes(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of `image_folder` and 990 more of one image each: as many as ImageNet has."""
    root = tmp_path_factory.mktemp("thousand")
    shutil.copytree(image_folder, root, dirs_exist_ok=True)
    for part in ("train", "test"):
        for label in range(10, 1000):
            folder = root / part / f"class{label}"
            folder.mkdir()
            (folder / "0.jpg").hardlink_to(root / part / "class0/0.jpg")
    return root


@pytest.fixture(scope="session")
def box_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small JPEG images with a box each, in YOLO's layout."""
    root = tmp_path_factory.mktemp("boxes")
    for folder in ("images/val2017", "labels/val2017"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        noise = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).save(root / f"images/val2017/{i}.jpg")
        (root / f"labels/val2017/{i}.txt").write_text(f"{i} 0.5 0.5 0.2 0.4\n")
    return root


@pytest.fixture(scope="session")
def object_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small images of several sizes with a rectangle each, in Penn-Fudan's layout and in COCO's."""
    root = tmp_path_factory.mktemp("objects")
    for folder in ("PNGImages", "PedMasks", "val2017", "annotations"):
        (root / folder).mkdir()
    images, annotations = [], []
    for i, (height, width) in enumerate(((48, 64), (80, 50), (64, 64), (56, 40))):
        noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
        mask = torch.zeros(height, width, dtype=torch.uint8)
        mask[8:40, 10:30] = 1
        Image.fromarray(noise).save(root / f"PNGImages/{i}.png")
        Image.fromarray(mask.numpy()).save(root / f"PedMasks/{i}_mask.png")
        Image.fromarray(noise).save(root / f"val2017/{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "height": height, "width": width})
        box = {"bbox": [10, 8, 20, 32], "segmentation": [[10, 8, 30, 8, 30, 40, 10, 40]], "area": 640, "iscrowd": 0}
        annotations += [{"id": 3 * i + c, "image_id": i, "category_id": (1, 7, 80)[c], **box} for c in range(3)]
    categories = [{"id": i, "name": "rectangle" if i == 7 else f"kind{i}"} for i in range(1, 81)]  # as many as COCO
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Model and images of every test batch that a run measures."""
    found: Measured = []
    measure = PayloadTask.predict_and_log_sizes

    def note(task: PayloadTask, images: Any) -> object:
        found.append((task.model, images))
        return measure(task, images)

    monkeypatch.setattr(PayloadTask, "predict_and_log_sizes", note)
    return found
