"""What folders hold is taken, or named with its number; what systems leave behind is neither."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from splitlearn.data import DataError, FolderSegmentation, ImageFolder, YoloDetection
from splitlearn.data.finding import SUFFIXES, find_images
from tests.data.conftest import MakeFolder


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() in SUFFIXES:
        Image.new("RGB", (8, 8)).save(file)
    else:
        file.write_text("x")


def sizes(root: Path, val_size: int = 2) -> tuple[int, ...]:
    data = ImageFolder(root, 8, val_size=val_size)
    data.setup()
    assert data.class_names == ("cat", "dog")
    return tuple(data.size(part) for part in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "valid", "test"), (6, 6, 6)),  # validation images are not drawn from train/
        (("train", "validation", "test"), (6, 6, 6)),
        (("train", "dev", "testing"), (6, 6, 6)),
        (("Training", "VAL", "Test"), (6, 6, 6)),
        (("train", "valid"), (4, 2, 6)),
    ],
)
def test_parts_of_other_names(make_folder: MakeFolder, parts: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert sizes(make_folder(parts, count=3)) == expected


def test_two_names_for_one_part_are_refused(make_folder: MakeFolder) -> None:
    root = make_folder(("train", "val", "valid"), count=3)
    with pytest.raises(DataError, match=r"holds val/ and valid/: keep or rename one of them"):
        sizes(root)


@pytest.mark.parametrize(
    "name", ["a.GIF", "a.tiff", "a.TIF", "a.webp", "a.bmp", "a.jp2", "a.avif", "a.ppm", "deep/a.png", "b/c/d/a.jpeg"]
)
def test_images_of_any_suffix_and_depth_are_taken(make_folder: MakeFolder, name: str) -> None:
    root = make_folder(("train", "test"), count=3)
    put(root / "test/cat" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sizes(root) == (4, 2, 7)


@pytest.mark.parametrize(
    "name",
    [
        "test/__MACOSX/._a.png", "test/.ipynb_checkpoints/a.png", "test/@eaDir/a.png", "test/cat/__MACOSX/a.png",
        "test/cat/._a.png", "test/cat/.DS_Store", "test/cat/Thumbs.db", "test/Desktop.ini", "__MACOSX/cat/a.png",
    ],
)  # fmt: skip
def test_what_systems_leave_behind_is_no_data(make_folder: MakeFolder, name: str) -> None:
    root = make_folder(("train", "test"), count=3)
    put(root / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sizes(root) == (4, 2, 6)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["test/loose.png"], r"test: 1 file\(s\) are ignored \(1 \.png\): images lie in test/<class>/"),
        (["test/cat/a.txt", "test/dog/b.txt", "test/dog/c.HEIC"], r"3 file\(s\) are ignored \(2 \.txt, 1 \.heic\)"),
        (["extra/q/1.png"], r"extra/q/1\.png is ignored, perhaps with others: images lie in train/<class>/"),
        (["2.jpg"], r"2\.jpg is ignored, perhaps with others: images lie in train/<class>/"),
        (["test/cat/unnamed"], r"1 file\(s\) are ignored \(1 unnamed\)"),
    ],
)
def test_what_is_passed_over_is_told(make_folder: MakeFolder, names: list[str], told: str) -> None:
    root = make_folder(("train", "test"), count=3)
    for name in names:
        put(root / name)
    with pytest.warns(UserWarning, match=told):
        assert sizes(root) == (4, 2, 6)


def test_folders_beside_are_searched_no_farther_than_the_first_image(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(("train", "test"), count=3)
    for name in ("a/1.png", "b/2.png"):
        put(root / name)
    scan, seen = os.scandir, list[str]()

    def watched(folder: Path) -> Any:
        seen.append(Path(folder).name)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", watched)
    with pytest.warns(UserWarning, match=r"a/1\.png is ignored"):
        sizes(root)
    assert "a" in seen
    assert "b" not in seen


def test_links_that_lead_back_end(make_folder: MakeFolder) -> None:
    root = make_folder(("train",), count=3)
    os.symlink(root / "train/cat", root / "train/cat/loop")
    os.symlink(root, root / "train/dog/up", target_is_directory=True)
    assert len(find_images(root)) == 6


def test_sub_folders_of_labels_and_masks(tmp_path: Path) -> None:
    for n in range(2):
        put(tmp_path / f"images/val2017/s/{n}.png")
        put(tmp_path / f"masks/val2017/s/{n}.PNG")
        put(tmp_path / f"labels/val2017/s/{n}.TXT")
        (tmp_path / f"labels/val2017/s/{n}.TXT").write_text("0 .5 .5 1 1")
    data = YoloDetection(tmp_path, 8, num_classes=1)
    assert [len(each.objects) for each in data.read_test()] == [1, 1]
    folders = {"test_images": "images/val2017", "test_masks": "masks/val2017"}
    masked = FolderSegmentation(tmp_path, {"a": 0, "b": 1}, **folders).read_test()  # type: ignore[arg-type]
    assert [pair.mask.parent.name for pair in masked] == ["s", "s"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=rf"cannot read {re.escape(str(tmp_path))} .*: correct its permissions"):
        find_images(tmp_path)
