"""Images without labels, from any folder, for calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from splitlearn.data import DataError, Digits, read_photos
from splitlearn.data.images import CentreCrop

VIEW = CentreCrop(8)


def write(folder: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    """Write images, each of a red of its own."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 100, 200)).save(folder / name)
    return folder


def reds(folder: Path, count: int) -> list[int]:
    return (read_photos(folder, VIEW, count)[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 3, 6]), (5, [0, 2, 4, 6, 8]), (10, list(range(10)))]
)
def test_images_are_spread_evenly(tmp_path: Path, count: int, expected: list[int]) -> None:
    assert reds(write(tmp_path, [f"{n}.png" for n in range(10)]), count) == expected


def test_fewer_images_than_asked_for_are_all_taken(tmp_path: Path) -> None:
    assert reds(write(tmp_path, ["a.png", "b.png", "c.png"]), 100) == [0, 1, 2]


def test_folders_are_searched_to_any_depth(tmp_path: Path) -> None:
    write(tmp_path, ["a/x.png", "a/b/c/y.PNG", "z.bmp", ".hidden.png", ".trash/x.png", "a/.thumbs/b/x.png"])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "album.png").mkdir()
    with pytest.warns(UserWarning, match=r"1 file\(s\) are ignored \(1 \.txt\): images end in \.apng, "):
        assert sorted(reds(tmp_path, 9)) == [0, 1, 2]


def test_a_hidden_folder_may_be_named(tmp_path: Path) -> None:
    write(tmp_path / ".photos", ["a.png"])
    assert reds(tmp_path / ".photos", 1) == [0]


def test_images_are_of_one_size_and_in_range(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"], (40, 9))
    write(tmp_path, ["b/b.png"], (3, 5))
    Image.new("L", (8, 8), 255).save(tmp_path / "c.png")
    images = read_photos(tmp_path, Digits().eval_view(), 9)
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.float32
    assert (float(images.min()), float(images.max())) == (0, 1)
    torch.testing.assert_close(images[:2, 1:, 0, 0] * 255, torch.tensor([[100.0, 200.0]] * 2))


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*none: name one that contains images"):
        read_photos(tmp_path / "none", VIEW, 3)
    with pytest.raises(DataError, match=r"holds no images \(\.apng, .*\): name a folder that does"):
        read_photos(tmp_path, VIEW, 3)
    (tmp_path / "file.png").touch()
    with pytest.raises(DataError, match="there is no folder"):
        read_photos(tmp_path / "file.png", VIEW, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"half"])
def test_a_damaged_photo_is_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, ["a.png", "b.png"], (64, 64))
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    with pytest.raises(DataError, match=r"cannot decode .*b\.png, remove or replace it"):
        read_photos(tmp_path, VIEW, 2)
