import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from splitlearn.data import DataError, ImageNet, LabelledImages
from tests.data.conftest import MakeFolder


def test_training_crops_are_random_and_test_crops_are_not(make_folder: MakeFolder) -> None:
    root = make_folder(("train", "val"), classes=("n1", "n2"), count=3, size=(40, 30))
    data = ImageNet(root, image_size=16, resize=20, val_size=2, batch_size=8)
    data.setup("fit")
    data.setup("test")
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    first, second = (next(iter(data.test_dataloader()))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert len(first) == 6
    assert data.train_view() is not data.eval_view()


def test_missing_imagenet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded automatically; get ILSVRC2012"):
        ImageNet(tmp_path).setup("fit")


def test_real_sample(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "imagenet_sample500.zip") as archive:
        lines = archive.read("labels.csv").decode().splitlines()[:41]
        archive.extractall(tmp_path, [line.partition(",")[0] for line in lines[1:]])
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = LabelledImages(tmp_path, batch_size=16)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    assert batches[0][0].shape == (16, 3, 224, 224)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(0, 80, 2))
    assert (data.num_classes, data.class_names[0], data.class_names[1]) == (1000, "tench", "1")


def test_only_test_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has only test images"):
        LabelledImages(tmp_path).setup("fit")


def test_some_images_of_a_list_are_drawn_for_training(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder(("all",), classes=("n1",), count=10, size=(8, 8))
    files = sorted((root / "all/n1").iterdir())
    rows = [f"{file.relative_to(root)},{i}" for i, file in enumerate(files)]
    (root / "labels.csv").write_text("\n".join(["file,class_index", *rows]))
    listed = partial(LabelledImages, root, image_size=8, resize=None, num_classes=10, batch_size=4)
    data = listed(train_size=5, val_size=2)
    data.setup()
    parts = [[int(i) for _, labels in data.batches(part) for i in labels] for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5, 2, 3]
    assert sorted(i for part in parts for i in part) == list(range(10))
    other = listed(train_size=5, val_size=2, seed=1)
    other.setup("test")
    assert [int(i) for _, labels in other.batches("test") for i in labels] != parts[2]
    for train_size, val_size in ((8, 2), (5, 7), (-1, 2)):
        with pytest.raises(DataError, match=r"lists 10 images: train_size=.* must be positive and leave some for test"):
            listed(train_size=train_size, val_size=val_size).setup("fit")


@pytest.mark.parametrize("again", ["a.png,0", "a.png,1", "./b/../a.png,0", "link.png,0", "linked/a.png,0"])
def test_a_list_names_an_image_once(tmp_path: Path, again: str) -> None:
    (tmp_path / "images/b").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a.png")
    (tmp_path / "images/link.png").symlink_to("a.png")
    (tmp_path / "images/linked").symlink_to(tmp_path / "images")
    (tmp_path / "images/labels.csv").write_text(f"file,class_index\na.png,0\n{again}\n")
    for train_size in (0, 1):
        data = LabelledImages(tmp_path / "images", num_classes=2, train_size=train_size)
        with pytest.raises(DataError, match=r"labels\.csv lists .*images/a\.png twice: list each image once, with its"):
            data.setup("test")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "there is no .*labels.csv: set root"),
        ("file,label\na.png,3", "needs the columns file and class_index"),
        ("file,class_index\na.png,three", "needs the columns file and class_index"),
        ("file,class_index\na.png,10", "classes 0 to 9, found"),
        ("file,class_index", "must list images"),
        ("file,class_index\na.png,3", r"a\.png, listed in .*, is missing"),
    ],
)
def test_faulty_tables(tmp_path: Path, table: str | None, reason: str) -> None:
    if table is not None:
        (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=reason):
        LabelledImages(tmp_path, num_classes=10).setup("test")
