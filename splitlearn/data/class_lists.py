"""Comparison of declared classes with those of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from splitlearn.data.text import read_text
from splitlearn.decoding import DataError

__all__ = ["check_declared", "warn_of_unused"]

YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")  # files of YOLO's tools
LISTS = ("classes.txt", "classes.names", "obj.names")  # files of annotation tools


def check_declared(root: Path, num_classes: int, names: Sequence[str] | None) -> None:
    """Compare number and names of classes in a config with the class list of the data set in `root`, if there is one.

    Raises DataError if numbers or names of classes differ, or the labels are keypoints.
    """
    for file in (root / name for name in (*YAMLS, *LISTS)):
        listed = _listed(file) if file.is_file() else None
        count = listed if isinstance(listed, int) else len(listed or ())
        if count and count != num_classes:
            raise DataError(f"{file} lists {count} classes, but num_classes is {num_classes}: set it to {count}")
        if listed and isinstance(listed, list) and names is not None and list(names) != listed:
            at = next(i for i, (a, b) in enumerate(zip(names, listed, strict=True)) if a != b)
            raise DataError(f"class {at} is {listed[at]!r} in {file}, but {names[at]!r} in `names`: correct one")


def warn_of_unused(labels: Iterable[int], num_classes: int, place: Path) -> None:
    """Warn if no label has the first or the last class: labels may count from 1, or `num_classes` may be too large."""
    found = set(labels)
    if found and not {0, num_classes - 1} <= found:
        rank_zero_warn(
            f"{place}: there are {num_classes} classes, 0 to {num_classes - 1}, but examples only of "
            f"{min(found)} to {max(found)}: unless intended, correct the number of classes, or count from 0"
        )


def _listed(file: Path) -> list[str] | int | None:
    """Return the names of the classes, or their number, or None if a file contains neither."""
    text = read_text(file)
    if file.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if "kpt_shape" in content:  # a box with two-dimensional keypoints looks like a polygon
        raise DataError(f"{file} has keypoints (kpt_shape), which are not supported: use labels of boxes or polygons")
    names: Any = content.get("names")
    if isinstance(names, dict):
        by_number = {int(key): name for key, name in names.items() if str(key).isdecimal()}
        if sorted(by_number) != list(range(len(names))):
            raise DataError(f"{file} numbers its names {str(list(names))[:60]}: number them from 0 without gaps")
        names = [by_number[index] for index in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    count = content.get("nc")
    return count if isinstance(count, int) else None
