"""New classes found by themselves: a file in a room is enough."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
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


def loaded_classes(base: type[T]) -> dict[str, type[T]]:
    """Return the classes under `base` that can be made, by import path; those of a room also by its name for them.

    Nothing is imported to find them: a class of your own is among them once its module was imported.
    """
    found: dict[str, type[T]] = {}
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if inspect.isabstract(cls) or cls is base:
            continue
        room = ".".join(cls.__module__.split(".")[:2])
        paths = [f"{cls.__module__}.{cls.__qualname__}"]
        paths += [f"{room}.{cls.__name__}"] if getattr(sys.modules.get(room), cls.__name__, None) is cls else []
        found |= dict.fromkeys(paths, cls)
    return found
