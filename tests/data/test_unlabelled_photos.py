"""Photographs without labels: which are found, how they are divided, what varies, and what is refused."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from splitlearn.data import CachedFeatures, DataError, LetterboxPhotos, Photos, cache_features
from splitlearn.data.finding import find_images

COUNT = 12
SMALL: dict[str, Any] = {"image_size": 8, "val_size": 2, "test_size": 3, "batch_size": 4}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve photographs at several depths, each of a red of its own that grows to the right."""
    for number in range(COUNT):
        file = tmp_path / "photos" / ("deep/er" if number % 3 else "") / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.linear_gradient("L").rotate(90).resize((24, 16))
        Image.merge("RGB", [Image.new("L", (24, 16), 10 * number), image, image]).save(file)
    return tmp_path / "photos"


def numbers(data: Photos, part: str) -> list[int]:
    return [round(float(image[0, 0, 0]) * 25.5) for images, _ in data.batches(part) for image in images]


def test_every_photograph_has_one_part(root: Path) -> None:
    data = Photos(root, **SMALL)
    data.setup()
    parts = {part: numbers(data, part) for part in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [7, 2, 3]
    assert sorted(number for part in parts.values() for number in part) == list(range(COUNT))


def test_parts_depend_on_the_seed_alone(root: Path) -> None:
    first, again, other = (Photos(root, **SMALL, num_workers=0, seed=seed) for seed in (1, 1, 2))
    for data in (first, again, other):
        data.setup()
    assert numbers(first, "test") == numbers(again, "test")
    assert numbers(first, "val") == numbers(again, "val")
    assert numbers(first, "test") != numbers(other, "test")


def test_test_images_may_lie_in_a_folder_of_their_own(root: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    for file in find_images(root)[:4]:
        (apart / "in").mkdir(parents=True, exist_ok=True)
        shutil.move(file, apart / "in" / file.name)
    data = Photos(root, **SMALL, test_root=apart)
    data.setup()
    parts = {part: numbers(data, part) for part in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [6, 2, 4]
    assert sorted(number for part in parts.values() for number in part) == list(range(COUNT))
    assert (data.drawn_from, data.drawn_by) == ("", ())  # nothing that was trained on can be tested
    with pytest.raises(DataError, match=r"there is no folder .*absent"):
        Photos(root, **SMALL, test_root=tmp_path / "absent").setup("test")


def test_copies_are_told(root: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    original = find_images(root)[0]
    shutil.copy(original, copies / "another_name.png")
    with pytest.warns(UserWarning, match=rf"1 of {COUNT + 1} photographs in .* are copies of others, .*another_name"):
        Photos(root, **SMALL, more_roots=[copies]).setup()
    os.remove(copies / "another_name.png")
    os.symlink(original, copies / "link.png")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*copies of others")
        linked = Photos(root, **SMALL, more_roots=[copies])
        linked.setup()
    assert linked.drawn_from == Photos(root, **SMALL).drawn_from  # the link is the same file


def test_a_list_of_photographs_is_known_by_its_names(root: Path) -> None:
    before = Photos(root, **SMALL).drawn_from
    os.remove(find_images(root)[-1])
    assert Photos(root, **SMALL).drawn_from != before


def test_a_validation_reads_the_parts_that_a_test_reads(root: Path) -> None:
    fit, test = Photos(root, **SMALL), Photos(root, **SMALL)
    fit.setup("fit")
    test.setup("test")
    seen = numbers(fit, "train") + numbers(fit, "val")
    assert not set(seen) & set(numbers(test, "test"))


def test_there_are_no_labels(root: Path) -> None:
    data = Photos(root, **SMALL)
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((4, 3, 8, 8), torch.uint8)
    assert (labels.shape, labels.dtype) == ((4, 0), torch.int64)
    assert data.num_classes == 0


def test_training_images_vary_and_others_do_not(root: Path) -> None:
    data = Photos(root, **SMALL)
    data.setup()

    def batch(part: str) -> torch.Tensor:
        return torch.cat([images for images, _ in data.batches(part)])

    assert not torch.equal(batch("train"), batch("train"))
    assert torch.equal(batch("val"), batch("val"))
    assert data.augments


def test_whole_photographs_never_vary(root: Path) -> None:
    data = Photos(root, **SMALL, smallest_crop=1)
    data.setup()
    first, second = (torch.cat([images for images, _ in data.batches("train")]) for _ in range(2))
    assert torch.equal(first, second)
    assert not data.augments


def test_a_cache_holds_different_crops_without_labels(root: Path, tmp_path: Path) -> None:
    data = Photos(root, **SMALL)
    info = cache_features(tmp_path / "cache", data, lambda images: (images,), "float32", views=3)
    assert info.views == 3
    cache = CachedFeatures(tmp_path / "cache", batch_size=7)
    batches = [cache.on_after_batch_transfer(batch, 0) for _ in range(9) for batch in cache.train_dataloader()]
    assert {tuple(labels.shape) for _, labels in batches} == {(7, 0)}
    views = {image.numpy().tobytes() for features, _ in batches for image in features.tensors[0]}
    assert 7 < len(views) <= 3 * 7


def test_several_folders_count_each_photograph_once(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (16, 16), (120, 0, 0)).save(other / "new.png")
    (other / "again.png").symlink_to(root / "00.png")
    data = Photos(root, more_roots=[other, root / "deep"], **SMALL)
    data.setup()
    assert sum(data.size(part) for part in ("train", "val", "test")) == COUNT + 1


def test_small_photographs_are_named_once(root: Path) -> None:
    data = Photos(root, **SMALL | {"image_size": 20})
    with pytest.warns(UserWarning, match=r"12 of 12 photographs in .* are smaller than 20 pixels and are enlarged"):
        data.setup()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Photos(root, **SMALL).setup()


def test_too_few_photographs(root: Path) -> None:
    with pytest.raises(DataError, match=r"there are 12 photographs .* a batch of 8 are needed: add photographs"):
        Photos(root, **SMALL | {"batch_size": 8}).setup()
    Photos(root, **SMALL | {"batch_size": 7}).setup()


def test_folders_without_photographs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with (
        pytest.raises(DataError, match="holds no images"),
        pytest.warns(UserWarning, match=r"1 file\(s\) are ignored"),
    ):
        Photos(tmp_path, **SMALL).setup()
    with pytest.raises(DataError, match="there is no folder"):
        Photos(tmp_path / "absent", **SMALL).setup()


def test_a_damaged_file_is_named(root: Path) -> None:
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    with pytest.raises(DataError, match=r"cannot decode .*broken\.jpg, remove or replace it"):
        Photos(root, **SMALL).setup()


@pytest.mark.parametrize("wrong", [{"smallest_crop": 0}, {"smallest_crop": 1.5}, {"test_size": 0}, {"image_size": 0}])
def test_impossible_arguments(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at (least|most) 1"):
        Photos(tmp_path, **SMALL | wrong)


def test_detectors_see_whole_photographs_with_grey_beside_them(root: Path) -> None:
    data = LetterboxPhotos(root, **SMALL | {"image_size": 24})
    data.setup()
    for part in ("train", "val", "test"):
        for images, labels in data.batches(part):
            assert images.shape[1:] == (3, 24, 24)
            assert labels.shape[1] == 0
            assert torch.allclose(images[:, :, [0, 23]], torch.tensor(114 / 255))  # 24×16 keeps its aspect ratio
            assert (images[:, 1:, 4:20].amax(3) > images[:, 1:, 4:20].amin(3)).all()
    whole = torch.cat([images for images, _ in data.batches("val")])
    assert (whole[:, 1, 4:20, 0] - whole[:, 1, 4:20, -1]).abs().min() > 0.9  # both ends of the gradient are seen


def test_parts_of_photographs_are_of_the_chosen_size(root: Path) -> None:
    data = LetterboxPhotos(root, **SMALL | {"image_size": 24, "smallest_crop": 0.25})
    data.setup()
    seen = torch.cat([images for _ in range(9) for images, _ in data.batches("train")])[:, 1, 4:20]
    spans = seen.amax((1, 2)) - seen.amin((1, 2))  # of the gradient: the square root of the area's share
    assert 0.4 < spans.min() < 0.65
    assert 0.85 < spans.max() <= 1
    mirrored = (seen[:, :, 0] > seen[:, :, -1]).all(1).float().mean()
    assert 0.2 < mirrored < 0.8
    data = LetterboxPhotos(root, **SMALL | {"image_size": 24, "smallest_crop": 1})
    data.setup()
    first, second = (torch.cat([images for images, _ in data.batches("train")]) for _ in range(2))
    assert torch.equal(first, second)


def test_letterboxes_enlarge_by_the_longer_side(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"12 of 12 photographs in .* are smaller than 25 pixels"):
        LetterboxPhotos(root, **SMALL | {"image_size": 25}).setup()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LetterboxPhotos(root, **SMALL | {"image_size": 24}).setup()
