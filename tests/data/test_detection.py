"""Both layouts bring the same boxes; what is wrong with the files is told, with file and line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torchvision.ops import box_iou

from splitlearn.data import (
    CocoDetection,
    CocoObjects,
    DataError,
    DetectionDataModule,
    ImageDataModule,
    YoloDetection,
    YoloObjects,
)

Change = Callable[[dict[str, Any]], Any]

pytestmark = pytest.mark.filterwarnings("ignore:.* have no label file")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two test images 40 × 20, three training images; categories 7 (cat) and 3 (dog), in this order."""
    for part, count in (("val2017", 2), ("train2017", 3)):
        (tmp_path / part).mkdir()
        for n in range(count):
            Image.new("RGB", (40, 20), (9, 9, 9)).save(tmp_path / part / f"{n}.png")
        content = {
            "images": [{"id": 10 + n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(count)],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
            "annotations": [
                {"image_id": 11, "category_id": 7, "bbox": [4, 2, 20, 10], "iscrowd": 0},
                {"image_id": 11, "category_id": 3, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            ],
        }
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Two test images 40 × 20, the first without a label file; three training images."""
    for part, count in (("val2017", 2), ("train2017", 3)):
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "labels" / part).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", (40, 20), (9, 9, 9)).save(tmp_path / "images" / part / f"{n}.png")
    (tmp_path / "labels/val2017/1.txt").write_text("1 0.35 0.35 0.5 0.5\n\n0 0.5 0.5 1 1\n")
    (tmp_path / "labels/train2017/0.txt").write_text("")
    return tmp_path


def test_boxes_in_shares_are_told(coco: Path) -> None:
    """As tools leave them that scale boxes by the image's size."""
    file = coco / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    for entry, box in zip(content["annotations"], ([0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]), strict=True):
        entry["bbox"] = box
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"only boxes between 0 and 1.*multiply them by its width and height"):
        CocoDetection(coco, 80).setup("test")


def test_coco_boxes_and_classes(coco: Path) -> None:
    data = CocoDetection(coco, 80, batch_size=2)
    assert data.class_names == ("dog", "cat")
    assert data.num_classes == 2
    assert data.image_shape == (3, 80, 80)
    data.setup("test")
    raw = next(iter(data.test_dataloader()))
    assert raw[0].dtype == torch.uint8
    images, boxes = data.on_after_batch_transfer(raw, 0)
    assert images.shape == (2, 3, 80, 80)
    assert images[0, 0, 0, 0] == pytest.approx(114 / 255)
    assert images[0, 0, 40, 40] == pytest.approx(9 / 255)
    empty, two = boxes
    assert empty.xyxy.shape == (0, 4)
    assert two.xyxy.dtype == torch.float32
    assert two.labels.tolist() == [1, 0]
    assert two.crowd.tolist() == [False, True]
    torch.testing.assert_close(two.xyxy, torch.tensor([[8.0, 24, 48, 44], [0, 20, 80, 60]]))


def test_yolo_brings_the_same_boxes(yolo: Path) -> None:
    data = YoloDetection(yolo, (80, 80), num_classes=2, names=["dog", "cat"], batch_size=2)
    assert data.class_names == ("dog", "cat")
    data.setup("test")
    _, (empty, two) = next(iter(data.test_dataloader()))
    assert empty.xyxy.shape == (0, 4)
    assert two.labels.tolist() == [1, 0]
    assert two.crowd is None
    torch.testing.assert_close(two.xyxy, torch.tensor([[8.0, 24, 48, 44], [0, 20, 80, 60]]))
    assert YoloDetection(yolo).class_names[79] == "79"


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_training_images_load_apart_from_validation_images(layout: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    classes = {"coco": CocoDetection, "yolo": YoloDetection}
    data: DetectionDataModule = classes[layout](root, (16, 32), val_size=1, batch_size=2)
    assert data.image_shape == (3, 16, 32)
    data.setup("fit")
    images, boxes = next(iter(data.train_dataloader()))
    assert images.shape == (2, 3, 16, 32)
    assert len(boxes) == 2
    assert len(next(iter(data.val_dataloader()))[1]) == 1
    assert len(data.read_train()) == 3


def changed(root: Path, change: Change) -> CocoDetection:
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return CocoDetection(root, 80)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["images"].append({"id": 1, "file_name": "x.png", "width": 4, "height": 4}), r"x\.png, listed in"),
        (
            lambda c: c["annotations"].append({"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]}),
            r"2017\.json has an annotation of the image 99, which it does not list: correct it",
        ),
        (
            lambda c: c["annotations"].append({"image_id": 11, "category_id": 5, "bbox": [0, 0, 1, 1]}),
            r"2017\.json has an annotation of the category 5, which it does not list: correct it",
        ),
        (lambda c: c["images"][1].update(id="11"), r"has an annotation of the image 11, which it does not list"),
        (lambda c: c["annotations"][0].pop("bbox"), r"category_id and bbox \('bbox' is missing\)"),
        (lambda c: c["images"][1].update(id=10), r"has the image id 10 twice, for 0\.png and 1\.png: list each image"),
        (lambda c: c["images"][1].update(file_name="./0.png"), r"lists 0\.png twice, with the ids 10 and 11: list it"),
        (
            lambda c: c["annotations"][0].update(bbox=[20, 8, 36, 18]),  # corners
            r"has the bbox \[20, 8, 36, 18\], most of .* outside its image of 40×20 pixels: COCO's are x, y, width",
        ),
        (lambda c: c["annotations"][0].update(bbox=[50, 8, 10, 10]), r"has the bbox \[50, 8, 10, 10\], most of"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 1]), "is damaged or holds no COCO instances"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 1, float("nan")]), "is damaged or holds no COCO instances"),
        (lambda c: c["images"][1].update(width=0), "is damaged or holds no COCO instances"),
        (lambda c: c.pop("annotations"), "is damaged or holds no COCO instances"),
        (lambda c: c.update(images=[], annotations=[]), "lists no images"),
        (lambda c: c.update(annotations=[]), "without any object"),
        (lambda c: c.update(categories=[]), "names no categories"),
        (lambda c: c.pop("categories"), "categories need id and name"),
    ],
)
def test_what_is_wrong_with_a_coco_json(coco: Path, change: Change, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        changed(coco, change).setup("test")


def test_boxes_are_clipped_to_their_image(coco: Path, yolo: Path) -> None:
    changed(coco, lambda c: c["annotations"][0].update(bbox=[-10, 5, 30, 20]))
    (yolo / "labels/val2017/1.txt").write_text("0 0.125 0.75 0.75 1\n0 -0.005 0.2 -0.005 0.5 0.5 0.5\n")
    for data in (CocoDetection(coco, 40), CocoObjects(coco), YoloDetection(yolo, 40), YoloObjects(yolo)):
        data.setup("test")
        for _, (_, objects) in data.test_dataloader():
            below = 10 if isinstance(data, DetectionDataModule) else 0  # that letterboxes
            torch.testing.assert_close(objects.xyxy[0], torch.tensor([0.0, 5 + below, 20, 20 + below]))
            assert objects.xyxy[1, 0] == 0


@pytest.mark.parametrize(
    ("size", "turn"), [((20, 10), 1), ((80, 40), 1), ((40, 40), 1), ((39, 20), 1), ((20, 40), 1), ((40, 20), 6)]
)
def test_boxes_of_an_image_of_another_size_are_refused(coco: Path, size: tuple[int, int], turn: int) -> None:
    """Scaled, enlarged, letterboxed, cropped, turned, and turned by its EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", size).save(coco / "val2017/1.png", exif=exif)
    shown = f"{size[0]}×{size[1]}" if turn == 1 else f"{size[1]}×{size[0]}"
    data = CocoDetection(coco, 80)
    data.setup("test")
    with pytest.raises(DataError, match=rf"1\.png has {shown} pixels, but its annotations are for 40×20: use images"):
        list(data.test_dataloader())


def test_categories_have_one_id_each(coco: Path) -> None:
    with pytest.raises(DataError, match=r"two categories with the id 3, dog and ant: give each a unique id"):
        _ = changed(coco, lambda c: c["categories"].append({"id": 3, "name": "ant"})).class_names


@pytest.mark.parametrize(("text", "reason"), [("{]", "damaged or no json"), ("[]", "holds no COCO instances")])
def test_no_coco_json_at_all(coco: Path, text: str, reason: str) -> None:
    file = coco / "annotations/instances_val2017.json"
    file.write_text(text)
    with pytest.raises(DataError, match=reason):
        CocoDetection(coco).setup("test")
    file.unlink()
    with pytest.raises(DataError, match=r"there is no .*instances_val2017\.json"):
        CocoDetection(coco).setup("test")
    assert CocoDetection(coco).class_names == ("dog", "cat")  # the training images' json has them too


def test_coco_parts_have_the_same_categories(coco: Path) -> None:
    data = changed(coco, lambda c: c["categories"].append({"id": 1, "name": "ant"}))
    data.setup("test")
    assert [label for _, boxes in data.test_dataloader() for b in boxes for label in b.labels.tolist()] == [2, 1]
    with pytest.raises(DataError, match=r"categories of .*instances_train2017\.json .* differ"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("80 0.5 0.5 1 1", r"1\.txt, line 2, has class 80, but num_classes is 80"),
        ("-1 0.5 0.5 1 1", r"line 2, has class -1"),
        ("0 0.5 0.5 1", r"1\.txt, line 2, is malformed \('0 0.5 0.5 1'\): each line holds class"),
        ("0 0.5 0.5 1 1 1", "line 2, is malformed"),
        ("0 0.9 0.9 0.95 0.95", "line 2, has a box most of which lies outside its image: each line"),  # corners
        ("cat 0.5 0.5 1 1", "line 2, is malformed"),
        ("0.5 0.5 0.5 1 1", "line 2, is malformed"),
        ("0 20 10 40 20", "line 2, is malformed"),
        ("0 0.5 0.5 nan 1", "line 2, is malformed"),
        ("0 0.5 0.5 -0.005 1", "line 2, is malformed"),
        ("0 0.5 0.5 1 1 1 1 1", "line 2, is malformed"),  # three corners and a half
        ("0 0.1 0.1 0.9 0.1 0.5 1.2", "line 2, is malformed"),
        ("\0", "is no text file"),
    ],
)
def test_what_is_wrong_with_a_label_file(yolo: Path, line: str, reason: str) -> None:
    text = f"0 0.5 0.5 1.005 1\n{line}\n"  # rounding may carry a share beyond 1
    (yolo / "labels/val2017/1.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=reason):
        YoloDetection(yolo).setup("test")


def test_yolo_data_that_are_not_there(yolo: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*images/test: set root"):
        YoloDetection(yolo, test_images="images/test").setup("test")
    with pytest.raises(DataError, match="has no part `images`"):
        YoloDetection(yolo, test_images="val2017").setup("test")
    (yolo / "labels/val2017/1.txt").unlink()
    with pytest.raises(DataError, match=r"no image of .*val2017 has a label file, such as .*labels/val2017/0\.txt"):
        YoloDetection(yolo).setup("test")
    for file in (yolo / "images/val2017").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="val2017 holds no images"):
        YoloDetection(yolo).setup("test")


def test_impossible_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 names are given for 2 classes"):
        YoloDetection(tmp_path, num_classes=2, names=["cat"])
    with pytest.raises(ValueError, match="image_size must be at least 1"):
        CocoDetection(tmp_path, (0, 640))


def test_by_config() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    settings = {"class_path": "splitlearn.data.YoloDetection", "init_args": {"root": "x", "image_size": [480, 640]}}
    assert parser.instantiate(parser.parse_object({"data": settings})).data.image_shape == (3, 480, 640)


def test_coco256_in_both_layouts(shared_data: Path, tmp_path: Path) -> None:
    """The json and the label files of the same training images tell the same objects, crowds apart."""
    json_file = "annotations/instances_train2017_128.json"
    with zipfile.ZipFile(shared_data / "coco256.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path, [n for n in names if n == json_file or n.startswith("labels/train2017/")])
    (tmp_path / "images/train2017").mkdir(parents=True)
    for n in names:
        if n.startswith("images/train2017/") and n.endswith(".jpg"):
            (tmp_path / n).touch()  # no pixel is looked at
    ours = CocoDetection(tmp_path, train_images="images/train2017", train_annotations=json_file)
    from_json = {item.file.name: item.objects for item in ours.read_train()}
    from_text = {item.file.name: item.objects for item in YoloDetection(tmp_path).read_train()}
    assert len(ours.class_names) == 80
    assert from_json.keys() == from_text.keys()
    assert sum(len(objects) for objects in from_text.values()) > 800
    for name, objects in from_text.items():
        expected = from_json[name]
        assert expected.crowd is not None
        single = ~expected.crowd
        labels, wanted = expected.labels[single], expected.xyxy[single]
        assert sorted(objects.labels.tolist()) == sorted(labels.tolist())
        overlap = box_iou(640 * wanted, 640 * objects.xyxy) * (labels[:, None] == objects.labels)
        assert (overlap.max(1).values > 0.9).all() if len(labels) else not len(objects)
