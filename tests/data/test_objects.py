"""Images of their own sizes: boxes and masks are exact through reading, clipping, flipping and batching."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco_masks  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from splitlearn.data import CocoObjects, DataError, ObjectsDataModule, PennFudan, YoloObjects
from splitlearn.data.aspect_ratio import AspectBatches, aspect_groups
from splitlearn.outputs import Boxes

SIZES = [(60, 40), (30, 90), (64, 64), (20, 20), (200, 30), (50, 42)]  # width, height
FLIP = v2.RandomHorizontalFlip(1.0)
Change = Callable[[dict[str, Any]], Any]


def picture(file: Path, size: tuple[int, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(file)


@pytest.fixture
def pedestrians(tmp_path: Path) -> Path:
    """Six pictures of different sizes with n rectangles each, in Penn-Fudan's layout: the first has none."""
    (tmp_path / "PedMasks").mkdir()
    for n, (width, height) in enumerate(SIZES):
        picture(tmp_path / f"PNGImages/{n}.png", (width, height))
        ids = torch.zeros(height, width, dtype=torch.uint8)
        for k in range(n):
            ids[2 : 10 + k, 3 * k : 3 * k + 3] = k + 1
        Image.fromarray(ids.numpy()).save(tmp_path / f"PedMasks/{n}_mask.png")
    return tmp_path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Training and test images of different sizes in COCO's layout; the last of each has no objects."""
    for part in ("train2017", "val2017"):
        images, annotations = [], []
        for n, (width, height) in enumerate(SIZES):
            picture(tmp_path / part / f"{n}.png", (width, height))
            images.append({"id": n, "file_name": f"{n}.png", "width": width, "height": height})
            if n < len(SIZES) - 1:
                polygon = [2, 3, 12, 3, 12, 13, 2, 13]
                runs = {"size": [height, width], "counts": [width * height - 5, 5]}
                common = {"image_id": n, "category_id": 9}
                annotations += [
                    {**common, "bbox": [2, 3, 10, 10], "segmentation": [polygon]},
                    {**common, "bbox": [width - 5, -3, 8, 16], "iscrowd": 1, "segmentation": runs},
                ]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 9, "name": "box"}]}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{part}.json").write_text(json.dumps(content))
    return tmp_path


def first(data: ObjectsDataModule, part: str = "test") -> tuple[list[torch.Tensor], list[Boxes]]:
    data.setup()
    batch: tuple[list[torch.Tensor], list[Boxes]] = next(iter(data.batches(part)))
    return batch


def test_penn_fudan_has_a_box_around_each_mask(pedestrians: Path) -> None:
    data = PennFudan(pedestrians, test_size=4, val_size=1, batch_size=4)
    images, objects = first(data)
    assert data.num_classes == 1
    for image, found in zip(images, objects, strict=True):
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        size = SIZES.index((image.shape[2], image.shape[1]))
        assert len(found) == size
        assert found.masks is not None
        assert found.masks.shape == (size, *image.shape[1:])
        for k in range(size):  # the boxes' far edges lie behind their last pixels
            assert [3 * k, 2, 3 * k + 3, 10 + k] in found.xyxy.tolist()
    assert data.size("train") == data.size("val") == 1
    again = PennFudan(pedestrians, test_size=4, val_size=1)
    assert again.read_test() == data.read_test()
    assert not {str(f) for f, _ in data.read_test()} & {str(f) for f, _ in data.read_train()}


def test_the_real_pedestrians(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "pennfudanped_jpeg92.zip") as archive:
        names = [n for n in archive.namelist() if "0000" in n]
        archive.extractall(tmp_path, names)
    root = next(f.parent for f in tmp_path.rglob("images") if f.is_dir())
    data = PennFudan(root, test_size=5, val_size=2)
    images, objects = first(data)
    assert {str(file) for file, _ in data.read_test()}
    for image, found in zip(images, objects, strict=True):
        assert found.masks is not None
        assert 0 < len(found) < 10
        boxes = masks_to_boxes(found.masks)
        boxes[:, 2:] += 1
        assert torch.equal(found.xyxy, boxes)
        assert found.masks.shape[1:] == image.shape[1:]


def changed(root: Path, part: str, change: Change) -> None:
    file = root / f"annotations/instances_{part}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_coco_masks_crowds_and_boxes_beyond_the_image(coco: Path) -> None:
    data = CocoObjects(coco, masks=True, val_size=2, batch_size=len(SIZES))
    images, objects = first(data)
    assert data.class_names == ("box",)
    for (width, height), image, found in zip(SIZES[:-1], images, objects, strict=False):
        assert image.shape == (3, height, width)
        assert found.xyxy.tolist() == [[2, 3, 12, 13], [width - 5, 0, width, 13]]  # clipped
        assert found.crowd is not None
        assert found.crowd.tolist() == [False, True]
        assert found.masks is not None
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[3:13, 2:12] = True
        assert torch.equal(found.masks[0], expected)
        assert found.masks[1].sum() == 5
        assert found.masks[1][-5:, -1].all()  # run-lengths go down columns
    assert len(objects[-1]) == 0
    assert objects[-1].masks is not None
    assert objects[-1].masks.shape == (0, SIZES[-1][1], SIZES[-1][0])
    assert first(CocoObjects(coco, val_size=2))[1][0].masks is None


def test_objects_without_an_area_are_left_out(coco: Path) -> None:
    boxes = [3, 3, 10, 0], [3, 3, 0, 10]
    changed(coco, "val2017", lambda c: [a.update(bbox=b) for a, b in zip(c["annotations"], boxes, strict=False)])
    data = CocoObjects(coco, masks=True, val_size=2)
    _, objects = first(data)
    assert [len(found) for found in objects] == [0, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].pop("segmentation"), "set masks to false"),
        (
            lambda c: c["annotations"][1].update(segmentation={"size": [3, 3], "counts": [4, 5]}),
            "on an image of 60×40 pixels.*height and width as size",
        ),
        (lambda c: c["annotations"][0].update(segmentation="polygon"), "malformed"),
        (lambda c: c["annotations"][0].update(segmentation=None), "malformed"),
        (
            lambda c: c["annotations"][0].update(segmentation=[[]]),
            r"malformed segmentation \(\[\[\]\]\).*three or more points",
        ),
        (lambda c: c["annotations"][0].update(segmentation=[[2, 3, 12, 13]]), "three or more points"),
        (
            lambda c: c["annotations"][0].update(segmentation=[[2, 3, 12, 3, 12, 13], [5, 5, 6, 6]]),
            "three or more points",
        ),
        (lambda c: c["annotations"][0].update(segmentation=[[2, 3, 12, 3, 12, 13, 2]]), "x and y"),
        (lambda c: c["annotations"][0].update(segmentation=[2, 3, 12, 3, 12, 13]), "malformed"),
        (lambda c: c["annotations"][0].update(segmentation=[[2, 3, 1e9, 3, 12, 13]]), "malformed"),
        (lambda c: c["annotations"][0].update(segmentation=[[2, 3, math.nan, 3, 12, 13]]), "malformed"),
        (lambda c: c["annotations"][0].update(segmentation={"size": [40, 60]}), r"0\.png is malformed.*counts"),
        (lambda c: c["annotations"][0].update(segmentation={"size": [40, 60], "counts": "Rc0"}), "correct or remove"),
        (lambda c: c["annotations"][0].update(segmentation={"size": [40, 60], "counts": [7, 9]}), "correct or remove"),
        (lambda c: c["annotations"][0].update(bbox=[12, 3, -10, 10]), r"bbox \[12, 3, -10, 10\] is not x, y, width"),
        (lambda c: c["annotations"][0].update(bbox=[2, 13, 10, -10]), "is damaged or holds no COCO instances"),
        (lambda c: c["images"][0].update(width=-60), "image 0 of -60×40 pixels"),
        (lambda c: c["images"][0].update(width=math.inf), "is damaged or holds no COCO instances"),
        (lambda c: c["categories"].append({"id": 11, "name": "other"}), "the categories of .* differ"),
        (lambda c: c["images"][0].update(file_name="elsewhere.png"), "is missing"),
    ],
)
def test_a_wrong_json_is_told(coco: Path, change: Change, message: str) -> None:
    changed(coco, "train2017", change)
    data = CocoObjects(coco, masks=True, val_size=2, batch_size=6)
    with pytest.raises(DataError, match=message):
        [first(data, part) for part in ("train", "val")]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("size", [(30, 20), (40, 60)])
def test_an_image_of_another_size_than_its_json_says_is_told(coco: Path, masks: bool, size: tuple[int, int]) -> None:
    """Smaller, or with width and height exchanged: boxes and masks would part ways."""
    picture(coco / "val2017/0.png", size)
    message = rf"0\.png has {size[0]}×{size[1]} pixels, but its annotations are for 60×40: use images and annotations"
    with pytest.raises(DataError, match=message):
        first(CocoObjects(coco, masks=masks, val_size=2))


def test_compressed_run_lengths_and_none_at_all(coco: Path) -> None:
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[3:13, 2:12] = mask[20:37, 40:60:3] = 1
    coded = coco_masks.encode(np.asfortranarray(mask.numpy()))
    found = {"size": [40, 60], "counts": coded["counts"].decode()}
    changed(coco, "val2017", lambda c: c["annotations"][0].update(segmentation=found))
    changed(coco, "val2017", lambda c: c["annotations"][1].update(segmentation=[]))
    objects = first(CocoObjects(coco, masks=True, val_size=2))[1][0]
    assert objects.masks is not None
    assert torch.equal(objects.masks[0], mask.bool())
    assert not objects.masks[1].any()


@pytest.mark.filterwarnings("ignore:.* there are 3 classes, .* examples only of 2")
def test_yolo_boxes_of_images_as_they_are(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        for n, size in enumerate(SIZES):
            picture(tmp_path / f"images/{part}/{n}.png", size)
            (tmp_path / f"labels/{part}").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"labels/{part}/{n}.txt").write_text("2 0.5 0.5 0.5 1\n" if n else "")
    data = YoloObjects(tmp_path, num_classes=3, val_size=2, batch_size=6)
    _, objects = first(data)
    assert len(objects[0]) == 0
    for (width, height), found in zip(SIZES[1:], objects[1:], strict=True):
        assert found.xyxy.tolist() == [[width / 4, 0, 3 * width / 4, height]]
        assert found.labels.tolist() == [2]


@pytest.mark.parametrize("layout", ["pedestrians", "coco"])
def test_a_flip_turns_image_boxes_and_masks_alike(layout: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    build: Any = PennFudan if layout == "pedestrians" else CocoObjects
    options: dict[str, Any] = {"test_size": 1} if layout == "pedestrians" else {"masks": True}
    plain, flipped = (build(root, val_size=2, transform=t, **options) for t in (None, FLIP))
    assert flipped.augments
    assert not plain.augments
    for data in (plain, flipped):
        data.setup()
    assert plain.size("train") >= 3
    for (image, there), (mirrored, found) in zip(plain._train, flipped._train, strict=True):
        assert torch.equal(mirrored, image.flip(-1))
        assert torch.equal(found.masks, there.masks.flip(-1))
        assert torch.equal(found.xyxy[:, 0], image.shape[-1] - there.xyxy[:, 2])
        assert torch.equal(found.xyxy[:, 1::2], there.xyxy[:, 1::2])
        assert type(mirrored) is type(found.xyxy) is torch.Tensor
        assert (found.crowd is None) == (there.crowd is None)


@pytest.mark.parametrize("layout", ["pedestrians", "coco"])
def test_batches_are_augmented_only_where_that_is_asked_for(layout: str, request: pytest.FixtureRequest) -> None:
    build: Any = PennFudan if layout == "pedestrians" else CocoObjects
    options: dict[str, Any] = {"test_size": 1} if layout == "pedestrians" else {"masks": True}
    changing = v2.Compose(
        [
            v2.RandomPhotometricDistort(p=1),
            v2.RandomHorizontalFlip(),
            v2.RandomIoUCrop(),
            v2.SanitizeBoundingBoxes(labels_getter=lambda inputs: inputs[1]["labels"]),
        ]
    )
    data = build(request.getfixturevalue(layout), val_size=2, transform=changing, **options)
    data.setup()
    torch.manual_seed(3)
    plain, again, other = (
        [pair for batch in data.batches("train", *augmented) for pair in zip(*batch, strict=True)]
        for augmented in ((), (False,), (True,))
    )
    files, images = data._train.files, [image for image, _ in plain]
    assert len(plain) == len(other) == len(files)
    for file, (image, found), (same, there) in zip(files, plain, again, strict=True):
        assert torch.equal(image, pil_to_tensor(Image.open(file)) / 255)
        assert torch.equal(image, same)
        assert torch.equal(found.xyxy, there.xyxy)
        assert torch.equal(found.masks, there.masks)
    assert not all(image.equal(view) for image, (view, _) in zip(images, other, strict=True))


def test_a_crop_leaves_out_what_lies_outside(pedestrians: Path) -> None:
    """Without SanitizeBoundingBoxes, which a user may not know of."""
    data: Any = PennFudan(pedestrians, test_size=1, val_size=1, transform=v2.CenterCrop((6, 5)))
    whole: Any = PennFudan(pedestrians, test_size=1, val_size=1)
    for each in (data, whole):
        each.setup("fit")
    counts = [sum(len(found) for _, found in each._train) for each in (data, whole)]
    assert counts[0] < counts[1]
    for image, found in data._train:
        assert image.shape[-2:] == (6, 5)
        assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
        assert (found.xyxy <= torch.tensor([5, 6, 5, 6])).all()
        assert len(found.labels) == len(found.masks) == len(found)


def test_training_batches_hold_images_of_about_one_shape(pedestrians: Path) -> None:
    data = PennFudan(pedestrians, test_size=1, val_size=1, batch_size=2)
    data.setup("fit")
    seen = [tuple(image.shape) for images, _ in data.train_dataloader() for image in images]
    assert len(seen) == len(set(seen)) == 4


def test_a_turned_photo_is_grouped_as_it_is_shown(pedestrians: Path) -> None:
    image = Image.open(pedestrians / "PNGImages/1.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(pedestrians / "PNGImages/1.png", exif=exif)
    data = PennFudan(pedestrians, test_size=1, val_size=1)
    data.setup()
    files: Any = next(p for p in (data._train, data._val, data._test) if any(f.stem == "1" for f in p.files))  # type: ignore[union-attr]
    index = [f.stem for f in files.files].index("1")
    assert files.shape(index) == (30, 90)


@given(
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    batch_size=st.integers(1, 7),
    drop_last=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_every_image_comes_once_in_as_many_batches(
    groups: list[int], batch_size: int, drop_last: bool, seed: int
) -> None:
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = list(AspectBatches(order, batch_size, drop_last, groups))
    count = len(groups) / batch_size
    assert len(batches) == (math.floor(count) if drop_last else math.ceil(count))
    seen = Counter(index for batch in batches for index in batch)
    assert max(seen.values(), default=1) == 1
    assert drop_last or len(seen) == len(groups)
    pure = sum(len({groups[i] for i in batch}) == 1 and len(batch) == batch_size for batch in batches)
    assert pure >= sum(count // batch_size for count in Counter(groups).values())


def test_groups_follow_the_shape() -> None:
    shapes = [(100, 100), (100, 101), (100, 99), (100, 200), (200, 100), (1, 1000), (1000, 1)]
    assert aspect_groups(shapes) == [0, 0, -1, 3, -3, 3, -4]


def test_what_is_missing_is_told(pedestrians: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set root"):
        PennFudan(tmp_path / "elsewhere").setup()
    with pytest.raises(DataError, match="different sizes"):
        _ = PennFudan(pedestrians).image_shape
    Image.new("L", (3, 3)).save(pedestrians / "PedMasks/4_mask.png")
    data = PennFudan(pedestrians, test_size=1, val_size=1, batch_size=6)
    data.setup()
    with pytest.raises(DataError, match="as large as its image"):
        [list(data.batches(part)) for part in ("train", "val", "test")]
    (pedestrians / "PedMasks/4_mask.png").unlink()
    with pytest.raises(DataError, match="has no mask"):
        PennFudan(pedestrians, test_size=1, val_size=1).setup()
