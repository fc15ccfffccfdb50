"""Declared classes and those that the data tell of are compared."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

from splitlearn.data import CocoDetection, DataError, LabelledImages, YoloDetection

NAMES = ["cat", "dog", "emu"]


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Two images with objects of classes 0 and 2."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for n in (0, 2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"images/{n}.png")
        (tmp_path / f"labels/{n}.txt").write_text(f"{n} .5 .5 1 1")
    return tmp_path


def data(root: Path, num_classes: int, names: list[str] | None = None) -> YoloDetection:
    return YoloDetection(root, 8, "images", "images", num_classes, names, val_size=1)


LISTS = [
    ("data.yaml", "names: [cat, dog, emu]\nnc: 3"),
    ("data.yaml", "names: {0: cat, 1: dog, 2: emu}"),
    ("data.yaml", "names: {2: emu, 0: cat, 1: dog}"),
    ("data.yml", "nc: 3"),
    ("classes.txt", "\ufeffcat\r\ndog\r\nemu\r\n\r\n"),
    ("obj.names", "cat\ndog\nemu"),
]


@pytest.mark.parametrize(("name", "text"), LISTS)
def test_a_data_sets_own_list_is_compared(yolo: Path, name: str, text: str) -> None:
    (yolo / name).write_text(text, encoding="utf-8")
    assert len(data(yolo, 3, NAMES).read_test()) == 2
    for read in (data(yolo, 5).read_test, data(yolo, 5).read_train):
        with pytest.raises(DataError, match=rf"{name} lists 3 classes, but num_classes is 5: set it to 3"):
            read()
    if "nc" not in text:
        with pytest.raises(DataError, match=r"class 1 is 'dog' in .*, but 'emu' in `names`: correct one"):
            data(yolo, 3, ["cat", "emu", "dog"]).read_test()


@pytest.mark.parametrize("text", ["path: .", "names: []", "[", "- 1", "names: 5\nnc: many"])
def test_a_list_that_tells_nothing_is_passed_over(yolo: Path, text: str) -> None:
    (yolo / "data.yaml").write_text(text)
    assert len(data(yolo, 3).read_test()) == 2


@pytest.mark.parametrize("names", ["{1: cat, 2: dog, 3: emu}", "{0: cat, 1: dog, 3: emu}", "{cat: 0, dog: 1, emu: 2}"])
def test_names_that_are_not_numbered_from_0_are_refused(yolo: Path, names: str) -> None:
    (yolo / "data.yaml").write_text(f"names: {names}")
    with pytest.raises(DataError, match=r"data\.yaml numbers its names .*: number them from 0 without gaps"):
        data(yolo, 3).read_test()


def test_classes_without_training_examples_are_told(yolo: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data(yolo, 3).setup("fit")  # a class between others may be rare
        data(yolo, 5).setup("test")  # a network of more classes may be tested
    with pytest.warns(UserWarning, match=r"there are 5 classes, 0 to 4, but examples only of 0 to 2"):
        data(yolo, 5).setup("fit")
    (yolo / "labels/0.txt").write_text("1 .5 .5 1 1")
    with pytest.warns(UserWarning, match="examples only of 1 to 2: .* or count from 0"):
        data(yolo, 3).setup("fit")


def test_a_category_that_stands_above_others_is_told(yolo: Path) -> None:
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in (0, 2)],
        "categories": [{"id": 0, "name": "animals"}, {"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 4, 4]}],
    }
    (yolo / "all.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"all\.json: there are 2 classes, .* examples only of 1 to 1"):
        CocoDetection(yolo, 8, "images", "all.json", "images", "all.json", val_size=1).setup("fit")


def listed(root: Path, rows: str, num_classes: int = 3, train_size: int = 0) -> LabelledImages:
    (root / "labels.csv").write_text("file,class_index,name\n" + rows)
    return LabelledImages(root, image_size=8, resize=None, num_classes=num_classes, train_size=train_size)


def test_lists_of_images(yolo: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv names class 1 'cat' and 'dog': correct one"):
        listed(yolo, "images/0.png,1,cat\nimages/2.png,1,dog").setup("test")
    crane = listed(yolo, "images/0.png,1,crane\nimages/2.png,2,crane\nimages/2.png,2,")  # ImageNet's bird and machine
    assert crane.class_names == ("0", "crane", "crane")
    Image.new("RGB", (8, 8)).save(yolo / "images/1.png")
    with pytest.warns(UserWarning, match="there are 9 classes, 0 to 8, but examples only of 0 to 1"):
        listed(yolo, "images/0.png,0,\nimages/2.png,1,\nimages/1.png,0,", 9, 1).setup("fit")
