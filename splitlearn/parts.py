"""Descriptions of codecs, quantizers and other parts in a manifest, and parts from them, only of imported classes."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from splitlearn.discovery import loaded_classes, moved_path, public_path
from splitlearn.outputs import init_args

T = TypeVar("T")
LARGEST = 2**31 - 1  # largest valid number in a manifest


class PartError(ValueError):
    """The description of a part is not valid."""


def part_settings(instance: object) -> dict[str, Any]:
    """Return class and arguments of a part, for a manifest."""
    return {"class_path": public_path(type(instance)), "init_args": init_args(instance)}


def rebuilt(description: Any, base: type[T]) -> T:
    """Return a new part from its description in a manifest.

    Its class must be an imported subclass of `base`: a file cannot cause an import.

    Raises:
        PartError: if the description is invalid, or its class is not known.
        Exception: any error of the class on its arguments.
    """
    cls, arguments = class_and_arguments(description, base)
    return cls(**arguments)


def class_and_arguments(description: Any, base: type[T]) -> tuple[type[T], dict[str, Any]]:
    """Return the class and the arguments of a description in a manifest; raises PartError as `rebuilt`."""
    path = description.get("class_path") if isinstance(description, dict) else None
    if not isinstance(path, str):
        raise PartError(f"it describes no {base.__name__} by class_path and init_args")
    classes = loaded_classes(base)
    if (cls := classes.get(path) or classes.get(moved_path(path))) is None:
        raise PartError(
            f"it names {path}, which is no {base.__name__} known here: import its module first, if you trust it"
        )
    arguments = description.get("init_args", {})
    if not isinstance(arguments, dict) or not all(map(_is_plain, arguments.values())):
        raise PartError(f"the arguments of {path} are not plain numbers and texts")
    return cls, arguments


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 2 and len(value) <= 4096 and all(_is_plain(each, depth + 1) for each in value)
    if isinstance(value, int):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))
