"""Readers of boxes in the formats of COCO (json) and YOLO (text files)."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from splitlearn.data.finding import find_images, listed_suffixes, walk
from splitlearn.data.letterbox import Labelled
from splitlearn.data.text import read_text
from splitlearn.decoding import DataError
from splitlearn.outputs import Boxes

__all__ = ["read_categories", "read_coco", "read_yolo"]

MARGIN = 0.01  # rounding error of a share, beyond 0 and 1
FAR = 100_000  # largest coordinate of a polygon, in pixels: drawing needs memory in proportion to the length of edges


def read_categories(file: Path) -> dict[int, str]:
    """Return the categories of a COCO json by ascending id; the position of a category is its class.

    Raises DataError if the file is missing, damaged or of another format.
    """
    return _categories(file, _read_json(file))


def read_coco(file: Path, folder: Path, categories: dict[int, str], masks: bool = False) -> list[Labelled]:
    """Return the images of a COCO instances json in its order, with their objects and marks of crowds.

    Boxes are clipped to their image.

    Args:
        file: the json.
        folder: folder of the images.
        categories: categories of the data set, from `read_categories`; ids become classes 0 … C−1 in their order.
        masks: keep the segmentations of the objects.

    Raises:
        DataError: json or images are missing; the json is damaged, has other categories, or lists an image twice; more
            than half of a box lies outside its image, or all boxes lie between 0 and 1; with `masks`, an object has no
            segmentation or a malformed one.
    """
    content = _read_json(file)
    if _categories(file, content) != categories:
        raise DataError(f"the categories of {file} and of the other json differ: use both files of one data set")
    classes = {identity: label for label, identity in enumerate(categories)}
    try:
        files = _files(file, content, folder)
        sizes = {image["id"]: _size(image) for image in content["images"]}
        objects: dict[Any, list[tuple[list[float], int, bool]]] = {identity: [] for identity in files}
        segmentations: dict[Any, list[Any]] = {identity: [] for identity in files}
        for entry in content["annotations"]:
            image, category = entry["image_id"], entry["category_id"]
            if image not in files:
                raise DataError(f"{file} has an annotation of the image {image!r}, which it does not list: correct it")
            if category not in classes:
                raise DataError(
                    f"{file} has an annotation of the category {category!r}, which it does not list: correct it"
                )
            box = _coco_box(file, entry["bbox"], sizes[image])
            objects[image].append((box, classes[category], bool(entry.get("iscrowd", 0))))
            if masks:
                segmentations[image].append(_segmentation(entry, sizes[image], file))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{file} is damaged or holds no COCO instances: images need id, file_name, width and height, "
            f"annotations image_id, category_id and bbox ({_told(error)})"
        ) from error
    if not files:
        raise DataError(f"{file} lists no images: set the annotations to a COCO instances json with images")
    if not any(objects.values()):
        raise DataError(f"{file} lists images without any object: set the annotations to the right file")
    if all(max(map(float, entry["bbox"])) <= 1 for entry in content["annotations"]):
        raise DataError(
            f"{file} has only boxes between 0 and 1, which are shares of the image: COCO's are in pixels, so multiply "
            "them by its width and height"
        )
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]}, listed in {file}, is missing ({len(missing)} in all): correct root or the images' folder"
        )
    return [
        Labelled(path, _boxes(objects[identity], crowds=True), tuple(segmentations[identity]), sizes[identity])
        for identity, path in files.items()
    ]


def read_yolo(folder: Path, num_classes: int) -> list[Labelled]:
    """Return the images of a folder and its sub-folders, sorted by name, with the objects of their label files.

    The objects of `…/images/val/7.jpg` are in `…/labels/val/7.txt`, one per line: class, centre x, centre y, width and
    height, the last four as shares of the width and height of the upright image. A line may also hold the class and the
    x and y of the corners of a polygon, which is read as its bounding box. Boxes are clipped to their image. An image
    without label file has no objects; a warning states the number of such images.

    Args:
        folder: folder of the images, with a part `images` in its path.
        num_classes: number of classes.

    Raises:
        DataError: the folder is missing or holds no images, none of them has a label file, or a label is malformed.
    """
    labels = _labels_folder(folder)
    if not folder.is_dir():
        raise DataError(f"there is no {folder}: set root to the folder that holds images/ and labels/")
    images = find_images(folder)
    if not images:
        raise DataError(f"{folder} holds no images ({listed_suffixes()}): correct root or the images' folder")
    written = {f.with_suffix(""): f for f in walk(labels) if f.suffix.lower() == ".txt"} if labels.is_dir() else {}
    names = [labels / image.relative_to(folder).with_suffix("") for image in images]
    without = sum(name not in written for name in names)
    if without == len(images):
        raise DataError(f"no image of {folder} has a label file, such as {names[0]}.txt: put the labels there")
    alone = {*written} - {*names}
    if without or alone:
        rank_zero_warn(
            f"{without} of {len(images)} images of {folder} have no label file and count as images without objects, "
            f"{len(alone)} label files of {labels} have no image and are ignored"
        )
    return [
        Labelled(image, _read_labels(written.get(name), num_classes)) for image, name in zip(images, names, strict=True)
    ]


def _files(file: Path, content: dict[str, Any], folder: Path) -> dict[Any, Path]:
    """Return the file of each image by its id; ids and files are unique."""
    ids: dict[str, Any] = {}
    files: dict[Any, Path] = {}
    for image in content["images"]:
        name, identity = os.path.normpath(image["file_name"]), image["id"]
        if identity in files:
            raise DataError(
                f"{file} has the image id {identity!r} twice, for {files[identity].name} and {name}: list each image "
                "once, with a unique id"
            )
        if name in ids:
            raise DataError(
                f"{file} lists {name} twice, with the ids {ids[name]!r} and {identity!r}: list it once, with all of "
                "its annotations"
            )
        ids[name], files[identity] = identity, folder / image["file_name"]
    return files


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _size(image: dict[str, Any]) -> tuple[int, int]:
    width, height = int(image["width"]), int(image["height"])
    if min(width, height) < 1:
        raise ValueError(f"image {image['id']} of {width}×{height} pixels")
    return width, height


def _coco_box(file: Path, bbox: Any, size: tuple[int, int]) -> list[float]:
    x, y, w, h = map(float, bbox)
    if not math.isfinite(x + y + w + h) or min(w, h) < 0:
        raise ValueError(f"bbox {bbox} is not x, y, width and height")
    width, height = size
    box = _inside([x / width, y / height, (x + w) / width, (y + h) / height])
    if box is None:
        raise DataError(
            f"{file} has the bbox {bbox}, most of which lies outside its image of {width}×{height} pixels: COCO's are "
            "x, y, width and height"
        )
    return box


def _inside(box: list[float]) -> list[float] | None:
    """Return a box, in shares, clipped to its image; None if more than half of it lies outside."""
    left, top, right, bottom = _clipped(box, MARGIN)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return _clipped(box, 0) if 2 * (right - left) * (bottom - top) >= area else None


def _clipped(box: list[float], margin: float) -> list[float]:
    return [min(max(side, -margin), 1 + margin) for side in box]


def _segmentation(entry: dict[str, Any], size: tuple[int, int], file: Path) -> Any:
    if "segmentation" not in entry:
        raise DataError(
            f"{file} has an annotation without segmentation: set masks to false, or take a file that has them"
        )
    found, (width, height) = entry["segmentation"], size
    if isinstance(found, list) and all(map(_is_polygon, found)):
        return found
    if isinstance(found, dict) and found.get("size") == [height, width]:  # runs are checked when they are decoded
        return found
    raise DataError(
        f"{file} has a malformed segmentation ({str(found)[:60]}) on an image of {width}×{height} pixels: correct or "
        "remove it; a polygon has x and y of three or more points, run-lengths have the image's height and width as "
        "size"
    )


def _is_polygon(found: Any) -> bool:
    pairs = isinstance(found, list) and len(found) >= 6 and len(found) % 2 == 0
    return pairs and all(-FAR < value < FAR for value in found)


def _labels_folder(folder: Path) -> Path:
    parts = list(folder.parts)
    if "images" not in parts:
        raise DataError(f"{folder} has no part `images` to be replaced by `labels`: name the folders as YOLO does")
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _read_labels(file: Path | None, num_classes: int) -> Boxes:
    if file is None:
        return _boxes([], crowds=False)
    lines = enumerate(read_text(file).splitlines(), 1)
    return _boxes([_object(file, n, line, num_classes) for n, line in lines if line.strip()], False)


LINE = (
    "each line holds class, centre x, centre y, width and height, or class and x and y of three or more corners, as "
    "shares of the image from 0 to 1"
)


def _object(file: Path, number: int, line: str, num_classes: int) -> tuple[list[float], int, bool]:
    try:
        label, *shares = map(float, line.split())
    except ValueError as error:
        raise DataError(f"{file}, line {number}, is malformed ({line[:60]!r}): {LINE}") from error
    polygon = len(shares) >= 6 and len(shares) % 2 == 0
    inside = all(-MARGIN <= share <= 1 + MARGIN for share in shares)
    if not (label.is_integer() and inside and (polygon or (len(shares) == 4 and min(shares[2:]) >= 0))):
        raise DataError(f"{file}, line {number}, is malformed ({line[:60]!r}): {LINE}")
    if not 0 <= label < num_classes:
        raise DataError(f"{file}, line {number}, has class {label:.0f}, but num_classes is {num_classes}: correct one")
    if polygon:
        xs, ys = shares[::2], shares[1::2]
        return _clipped([min(xs), min(ys), max(xs), max(ys)], 0), int(label), False
    x, y, w, h = shares
    box = _inside([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    if box is None:
        raise DataError(f"{file}, line {number}, has a box most of which lies outside its image: {LINE}")
    return box, int(label), False


def _boxes(objects: Sequence[tuple[list[float], int, bool]], crowds: bool) -> Boxes:
    shares = torch.tensor([box for box, _, _ in objects], dtype=torch.float64).reshape(len(objects), 4)
    labels: Tensor = torch.tensor([label for _, label, _ in objects], dtype=torch.int64)
    crowd = torch.tensor([crowd for _, _, crowd in objects], dtype=torch.bool) if crowds else None
    return Boxes(shares, labels, crowd=crowd)


def _categories(file: Path, content: dict[str, Any]) -> dict[int, str]:
    try:
        listed = [(int(category["id"]), str(category["name"])) for category in content["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} holds no COCO instances: its categories need id and name ({_told(error)})") from error
    if not listed:
        raise DataError(f"{file} names no categories: take a COCO instances json")
    named: dict[int, str] = {}
    for identity, name in listed:
        if named.setdefault(identity, name) != name:
            raise DataError(
                f"{file} has two categories with the id {identity}, {named[identity]} and {name}: give each a unique id"
            )
    return dict(sorted(named.items()))


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"there is no {file}: set root and the annotations to a COCO instances json")
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged or no json ({error}): replace it") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no COCO instances: it is no object with images, annotations and categories")
    return content
