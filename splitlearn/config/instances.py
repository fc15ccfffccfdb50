"""Objects that a command line names: by import path, or by the name alone of a class that the room offers."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any, TypeVar

from splitlearn.config.messages import UsageError, did_you_mean

T = TypeVar("T")


def instance(option: str, path: str, room: ModuleType | None, base: type[T], **arguments: Any) -> T:
    """Return a new object of the class at an import path; a name without dots is looked for in `room`.

    Raises:
        UsageError: if there is no such class, or it does not take the arguments.
    """
    module, _, name = path.rpartition(".")
    if not module and room is not None:
        names = {n.lower(): n for n in room.__all__ if _is_concrete(getattr(room, n), base)}
        if name.lower() not in names:
            near = did_you_mean(name, names.values())
            raise UsageError(f"--{option} has no {name!r}{near}; it takes {', '.join(names.values())}")
        module, name = room.__name__, names[name.lower()]
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--{option} {path} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        owner = ".".join(base.__module__.split(".")[:2])  # where its room offers it
        raise UsageError(
            f"--{option} takes the import path of a class derived from {owner}.{base.__name__}, got {path}"
        )
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{option} {path} cannot be made: {error}") from error


def _is_concrete(cls: object, base: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
