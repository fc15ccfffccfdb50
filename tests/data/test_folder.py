from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from splitlearn.data import DataError, ImageFolder
from tests.data.conftest import MakeFolder


def _folder(root: Path, **arguments: float | bool | None) -> ImageFolder:
    return ImageFolder(root, **{"image_size": 8, "val_size": 6, "batch_size": 4, **arguments})  # type: ignore[arg-type]


def _all(data: ImageFolder, part: str) -> tuple[Tensor, Tensor]:
    images, labels = zip(*getattr(data, f"{part}_dataloader")(), strict=True)
    return torch.cat(images), torch.cat(labels)


def _colours(data: ImageFolder, part: str) -> set[tuple[int, ...]]:
    return {tuple(image[:, 0, 0].tolist()) for image in _all(data, part)[0]}


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    ("parts", "counts", "test_part"),
    [
        (("train", "test"), (14, 6, 20), 1),
        (("train", "val"), (14, 6, 20), 1),
        (("train", "val", "test"), (20, 20, 20), 2),
    ],
)
def test_parts(
    make_folder: MakeFolder, parts: tuple[str, ...], counts: tuple[int, ...], test_part: int, in_memory: bool
) -> None:
    data = _folder(make_folder(parts), in_memory=in_memory)
    data.setup("fit")
    data.setup("test")
    colours = [_colours(data, part) for part in ("train", "val", "test")]
    assert tuple(map(len, colours)) == counts
    assert not (colours[0] & colours[1] | colours[0] & colours[2] | colours[1] & colours[2])
    assert {c[0] for c in colours[2]} == {80 * test_part}
    images, labels = _all(data, "test")
    assert torch.equal(labels, (images[:, 1, 0, 0] == 80).long())
    assert data.class_names == ("cat", "dog")


def test_memory_and_files_agree(make_folder: MakeFolder) -> None:
    root = make_folder(("train", "test"), size=(12, 9))
    from_files, from_memory = _folder(root), _folder(root, in_memory=True)
    for data in (from_files, from_memory):
        data.setup("fit")
    for a, b in zip(_all(from_files, "val"), _all(from_memory, "val"), strict=True):
        assert torch.equal(a, b)


def test_only_val_can_be_tested_and_not_trained_on(make_folder: MakeFolder) -> None:
    data = _folder(make_folder(("val",)))
    data.setup("test")
    assert len(_all(data, "test")[1]) == 20
    with pytest.raises(DataError, match=r"there is no train/ in .*: set root"):
        data.setup("fit")


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_resize_and_crop_at_the_centre(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (size[0] // 2 - 10, size[1] // 2 - 10, size[0] // 2 + 10, size[1] // 2 + 10))
    (tmp_path / "test" / "one").mkdir(parents=True)
    image.save(tmp_path / "test" / "one" / "white_centre.png")
    data = _folder(tmp_path, image_size=6, resize=10)
    data.setup("test")
    images, _ = _all(data, "test")
    assert images.shape == (1, *data.image_shape)
    assert images.min() == 255


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    (tmp_path / "test" / "one").mkdir(parents=True)
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(
        tmp_path / "test" / "one" / ("a.jpg" if mode == "CMYK" else "a.png")
    )
    data = _folder(tmp_path)
    data.setup("test")
    assert _all(data, "test")[0].shape == (1, 3, 8, 8)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*/nowhere: set root to a folder that holds train/"):
        _folder(tmp_path / "nowhere").setup("fit")


def test_empty_class_and_no_class(make_folder: MakeFolder, tmp_path: Path) -> None:
    data = _folder(make_folder(("test",)))
    (tmp_path / "test" / "emu").mkdir()
    with pytest.raises(DataError, match=r"test/emu holds no images"):
        data.setup("test")
    empty = tmp_path / "other"
    (empty / "test").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no class folders"):
        _folder(empty).setup("test")


def test_parts_must_have_the_same_classes(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(("train", "test"))
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "dgo")
    with pytest.raises(DataError, match="same class folders; only one of them has dgo, dog"):
        _folder(root).setup("fit")


def test_numbers_that_are_sorted_as_text_are_told(make_folder: MakeFolder) -> None:
    data = _folder(make_folder(("train", "test"), ("1", "2", "3", "10"), 3))
    with pytest.warns(UserWarning, match=r"sorted as text, 1, 10, 2, 3, …, as in .*: .* equally many digits") as told:
        data.setup()
    assert len(told) == 1
    assert data.class_names == ("1", "10", "2", "3")


@pytest.mark.parametrize("names", [("0", "1", "9"), ("01", "02", "10"), ("1", "10", "2nd"), ("class1", "class10")])
def test_other_orders_are_not_told(make_folder: MakeFolder, names: tuple[str, ...]) -> None:
    _folder(make_folder(("test",), names, 1)).setup("test")


@pytest.mark.parametrize(("link", "target"), [("val", "test"), ("val", "train"), ("test/emu", "cat")])
def test_links_make_no_parts_and_no_classes(make_folder: MakeFolder, link: str, target: str) -> None:
    root = make_folder(("train", "test"))
    (root / link).symlink_to(target)
    if link == "test/emu":
        (root / "train/emu").symlink_to(root / "test/dog")
    for stage in ("fit", "test"):
        with pytest.raises(DataError, match=r"/\w+ and .*/\w+ are one folder, by a link: remove one of them"):
            _folder(root).setup(stage)


def test_parts_may_lie_elsewhere(make_folder: MakeFolder) -> None:
    there = make_folder(("a", "b"))
    (there / "data").mkdir()
    for part, target in (("train", "a"), ("test", "b")):
        (there / "data" / part).symlink_to(there / target)
    _folder(there / "data").setup()


@pytest.mark.parametrize("in_memory", [False, True])
def test_damaged_image_is_named(make_folder: MakeFolder, in_memory: bool) -> None:
    root = make_folder(("test",))
    (root / "test" / "cat" / "003.png").write_bytes(b"nothing")
    data = _folder(root, in_memory=in_memory)
    with pytest.raises(DataError, match=r"cannot decode .*cat/003\.png"):
        data.setup("test") or list(data.test_dataloader())  # type: ignore[func-returns-value]


def test_crop_larger_than_the_resized_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resize at least image_size"):
        _folder(tmp_path, image_size=8, resize=6)


def test_training_images_may_be_random_parts(make_folder: MakeFolder) -> None:
    data = _folder(make_folder(("train", "test")), smallest_crop=0.3)
    assert data.augments
    picture = Image.effect_noise((32, 24), 50).convert("RGB")
    shown = {data.train_view()(picture).tobytes() for _ in range(5)}
    assert len(shown) > 1
    assert data.train_view()(picture).size == (8, 8)
    assert len({data.eval_view()(picture).tobytes() for _ in range(5)}) == 1


def test_wrong_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="smallest_crop lies above 0 and is at most 1, got 0"):
        _folder(tmp_path, smallest_crop=0)
    with pytest.raises(ValueError, match="images in memory are decoded once, so their crops cannot vary"):
        _folder(tmp_path, smallest_crop=0.5, in_memory=True)
