"""New classes found by themselves: a file in a room is enough."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def concrete_classes(room: ModuleType, base: type[T]) -> list[type[T]]:
    """Return the classes under `base` that the modules of a package define and that can be made, by name.

    Args:
        room: the package, e.g. `splitlearn.codecs`; all its modules are imported.
        base: their base class.
    """
    found: dict[str, type[T]] = {}
    for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        for name, value in vars(importlib.import_module(info.name)).items():
            own = inspect.isclass(value) and issubclass(value, base) and value.__module__ == info.name
            if own and not inspect.isabstract(value):
                found[name] = value
    return [found[name] for name in sorted(found)]
