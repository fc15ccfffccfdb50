"""Text as editors, spreadsheets and other systems write it: labels mean the same in all encodings."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

from splitlearn.data import CocoDetection, DataError, LabelledImages, VocSegmentation, YoloDetection
from splitlearn.data.text import read_text

MARKED = ["utf-8-sig", "utf-16", "utf-32"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("ä.png", "images/ä.png", "JPEGImages/ä.jpg", "SegmentationClass/ä.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def table(root: Path, content: bytes) -> LabelledImages:
    (root / "labels.csv").write_bytes(content)
    return LabelledImages(root, image_size=8, resize=None, num_classes=5)


@pytest.mark.parametrize("encoding", ["utf-8", *MARKED])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_in_every_encoding(root: Path, encoding: str, delimiter: str, end: str) -> None:
    rows = [["name", " File", "Class_Index ", "note"], ['"Bär,;\tin"', "ä.png", "1.0", ""]]
    rows += [["", r".\images\ä.png", "2", ""]]
    data = table(root, end.join(delimiter.join(row) for row in rows).encode(encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")
        assert data.class_names == ("0", "Bär,;\tin", "2", "3", "4")
    assert [int(label) for _, labels in data.batches("test") for label in labels] == [1, 2]


def test_a_table_in_latin_1_is_read_with_a_warning(root: Path) -> None:
    data = table(root, "file,class_index,name\nä.png,0,Bär\n".encode("latin-1"))
    with pytest.warns(UserWarning, match=r"labels\.csv is not UTF-8 and is read as Windows-1252 \(Latin-1\)"):
        data.setup("test")
    with pytest.warns(UserWarning, match="is not UTF-8"):
        assert data.class_names[0] == "Bär"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class_index\nä.png,1".encode("utf-16-le"), "contains zero bytes: save it as UTF-8"),
        (b"\xef\xbb\xbf\xff\xff", "is no readable text file .*: save it as UTF-8"),
        (b"\xff\xfe\x00", "is no readable text file .*: save it as UTF-8"),
        (b"\x81", "is no readable text file .*: save it as UTF-8"),
        ("file,class_index\nä.png,1.5".encode(), "line 2 has the class 1.5"),
        ("file,class_index\nä.png,inf".encode(), "needs the columns file and class_index"),
        ("file class_index\nä.png 1".encode(), "needs the columns file and class_index"),
    ],
)
def test_what_is_no_table_is_refused(root: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(root, content).setup("test")


@pytest.mark.parametrize("encoding", ["utf-8", *MARKED])
def test_labels_lists_and_jsons_in_every_encoding(root: Path, encoding: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "ä.png", "width": 8, "height": 8}],
        "categories": [{"id": 1, "name": "Bär"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}],
    }
    files = {
        "all.json": json.dumps(content, ensure_ascii=False),
        "labels/ä.txt": "0\t0.5 0.5  1 1\r\n\r\n",
        "ImageSets/Segmentation/val.txt": "ä\r\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode(encoding))
    coco = CocoDetection(root, 8, test_images="images", test_annotations="all.json")
    assert coco.class_names == ("Bär",)
    assert coco.read_test()[0].objects.xyxy.tolist() == [[0, 0, 0.5, 0.5]]
    yolo = YoloDetection(root, 8, test_images="images", num_classes=1).read_test()
    assert yolo[0].objects.xyxy.tolist() == [[0, 0, 1, 1]]
    assert VocSegmentation(root).read_test()[0].image.name == "ä.jpg"


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.1 0.2 0.5 0.2 0.5 0.6", [0.1, 0.2, 0.5, 0.6]),
        ("0 .5 .1 .9 .5 .5 .9 .1 .5", [0.1, 0.1, 0.9, 0.9]),  # four corners, as of turned boxes
        ("0.0 0.5 0.5 0.2 0.4", [0.4, 0.3, 0.6, 0.7]),
        ("0 0 0 1 0 1 1 0 1 0 0", [0, 0, 1, 1]),  # closed
    ],
)
def test_polygons_become_the_boxes_around_them(root: Path, line: str, box: list[float]) -> None:
    (root / "labels").mkdir()
    (root / "labels/ä.txt").write_text(line)
    (labelled,) = YoloDetection(root, 8, test_images="images", num_classes=1).read_test()
    assert labelled.objects.xyxy[0].tolist() == pytest.approx(box)


def test_labels_of_keypoints_are_refused(root: Path) -> None:
    """A box and two-dimensional keypoints look like a polygon."""
    (root / "labels").mkdir()
    (root / "labels/ä.txt").write_text("0 .5 .5 .2 .2 .1 .1")
    (root / "data.yaml").write_text("kpt_shape: [1, 2]\nnames: [a]")
    with pytest.raises(DataError, match=r"data\.yaml has keypoints .*: use labels of boxes or polygons"):
        YoloDetection(root, 8, test_images="images", num_classes=1).read_test()


def test_text_is_told_apart_by_its_mark(tmp_path: Path) -> None:
    for encoding in ("utf-8", *MARKED):
        (tmp_path / "a").write_bytes("über\r\n".encode(encoding))
        assert read_text(tmp_path / "a") == "über\r\n"
    with pytest.raises(DataError, match="is no readable text file"):
        read_text(tmp_path / "none")
