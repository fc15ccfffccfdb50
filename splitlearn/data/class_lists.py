"""Whether the classes that a user declares are those that the data tell of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from splitlearn.data.errors import DataError
from splitlearn.data.text import read_text

__all__ = ["check_declared", "tell_unused"]

YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")  # as YOLO's tools write them
LISTS = ("classes.txt", "classes.names", "obj.names")  # as programs write them that boxes are drawn with


def check_declared(root: Path, num_classes: int, names: Sequence[str] | None) -> None:
    """Compare declared classes with those that a data set's own list in `root` tells, if there is one.

    Args:
        root: folder of the data set.
        num_classes: how many classes are declared.
        names: of the declared classes, if they have any.

    Raises:
        DataError: there are more or fewer, or they have other names, or the labels are of keypoints.
    """
    for file in (root / name for name in (*YAMLS, *LISTS)):
        told = _told(file) if file.is_file() else None
        count = told if isinstance(told, int) else len(told or ())
        if count and count != num_classes:
            raise DataError(f"{file} tells of {count} classes, and num_classes is {num_classes}: set it to {count}")
        if told and isinstance(told, list) and names is not None and list(names) != told:
            at = next(i for i, (a, b) in enumerate(zip(names, told, strict=True)) if a != b)
            raise DataError(f"{file} calls class {at} {told[at]!r}, and names call it {names[at]!r}: correct one")


def tell_unused(labels: Iterable[int], num_classes: int, place: Path) -> None:
    """Warn if the first or the last of the classes have no example: they may be counted from 1, or too many.

    Args:
        labels: of the examples that tell it: those to train on, or all of a list that is drawn from.
        num_classes: how many classes there are.
        place: where the labels stand.
    """
    found = set(labels)
    if found and not {0, num_classes - 1} <= found:
        rank_zero_warn(
            f"{place}: there are {num_classes} classes, 0 to {num_classes - 1}, and examples of "
            f"{min(found)} to {max(found)} alone: if that is not meant, correct the number of classes, or count from 0"
        )


def _told(file: Path) -> list[str] | int | None:
    """Return the names of the classes, or their number, or None where a file tells neither."""
    text = read_text(file)
    if file.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if "kpt_shape" in content:  # a box with two-dimensional keypoints would pass for a polygon
        raise DataError(f"{file} tells of keypoints (kpt_shape), which are not read: take labels of boxes or polygons")
    names: Any = content.get("names")
    if isinstance(names, dict):
        by_number = {int(key): name for key, name in names.items() if str(key).isdecimal()}
        if sorted(by_number) != list(range(len(names))):
            raise DataError(f"{file} numbers its names {str(list(names))[:60]}: number them from 0, leaving none out")
        names = [by_number[index] for index in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    count = content.get("nc")
    return count if isinstance(count, int) else None
