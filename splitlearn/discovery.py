"""Discovery of classes in a package, and their import paths across versions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
MOVED = {  # import paths of version 0.1, apart from modules that are now deeper in the same package
    "splitlearn.grids": "splitlearn.numpy_quantizers",
    "splitlearn.cli": "splitlearn.config",
    "splitlearn.tasks.load_task": "splitlearn.config.loading.load_task",
    "splitlearn.tasks.DetectorTask": "splitlearn.tasks.DetectorTrainingTask",
    "splitlearn.tasks.FoundObjects": "splitlearn.tasks.DetectionScores",
    "splitlearn.tasks.NamedClasses": "splitlearn.tasks.ClassificationScores",
}
PATH = re.compile(r"(|--[\w.+]+=)(splitlearn(?:\.\w+){2,})")  # alone, or as the value of an option


def concrete_classes(room: ModuleType, base: type[T]) -> list[type[T]]:
    """Return the concrete subclasses of `base` in a package, sorted by name; imports all modules of the package."""
    found: dict[str, type[T]] = {}
    for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        for name, value in vars(importlib.import_module(info.name)).items():
            own = inspect.isclass(value) and issubclass(value, base) and value.__module__ == info.name
            if own and not inspect.isabstract(value):
                found[name] = value
    return [found[name] for name in sorted(found)]


def loaded_classes(base: type[T]) -> dict[str, type[T]]:
    """Return the concrete subclasses of `base` by import path, and by public path; imports nothing.

    A user's own class is included once its module has been imported.
    """
    found: dict[str, type[T]] = {}
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if inspect.isabstract(cls) or cls is base:
            continue
        found |= dict.fromkeys([f"{cls.__module__}.{cls.__qualname__}", public_path(cls)], cls)
    return found


def public_path(cls: type) -> str:
    """Return the public import path of a class: that of its package if it is exported there, else of its module."""
    room = ".".join(cls.__module__.split(".")[:2])
    is_offered = getattr(sys.modules.get(room), cls.__name__, None) is cls
    return f"{room}.{cls.__name__}" if is_offered else f"{cls.__module__}.{cls.__qualname__}"


def moved_path(path: str) -> str:
    """Return the public path of a splitlearn class from the path of its current or former module."""
    parts = path.split(".")
    return ".".join([*parts[:2], parts[-1]]) if parts[0] == "splitlearn" and len(parts) > 3 else path


def renamed_path(path: str) -> str:
    """Return the current import path of a class without any import, for paths in files that are not trusted."""
    moved = (new + path.removeprefix(old) for old, new in MOVED.items() if f"{path}.".startswith(f"{old}."))
    return moved_path(next(moved, path))


def current_path(path: str) -> str:
    """Return the current import path of a splitlearn class, function or module since 0.1; `path` if not found."""
    if not path.startswith("splitlearn."):
        return path
    moved = [new + path.removeprefix(old) for old, new in MOVED.items() if f"{path}.".startswith(f"{old}.")]
    for candidate in (path, *moved, moved_path(path), *map(moved_path, moved)):
        if _is_there(candidate):
            return candidate
    return path


def with_current_paths(settings: Any, current: Callable[[str], str] = current_path) -> Any:
    """Return settings or command-line arguments with import paths of earlier versions replaced by current ones.

    Args:
        settings: plain data, as from YAML.
        current: `current_path`, which imports modules of splitlearn that are named, or, for the contents of files that
            are not trusted, `renamed_path`.
    """
    if isinstance(settings, dict):
        return {name: with_current_paths(value, current) for name, value in settings.items()}
    if isinstance(settings, list):
        return [with_current_paths(value, current) for value in settings]
    if isinstance(settings, str) and (found := PATH.fullmatch(settings)):
        return found[1] + current(found[2])
    return settings


def _is_there(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False
