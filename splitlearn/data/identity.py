"""Identity of data: what a cache of their features depends on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from splitlearn.data.base import ImageDataModule
from splitlearn.outputs import init_args

__all__ = ["identity"]

UNTOUCHED = ("batch_size", "num_workers")  # arguments that do not affect images


def identity(data: ImageDataModule) -> list[Any]:
    """Return class and arguments of data, and what identifies their files, as values that JSON can hold as text.

    Files below `root` and `more_roots` are identified by their number, total size and the time of the latest change.
    """
    arguments = {name: value for name, value in init_args(data).items() if name not in UNTOUCHED}
    folders: Sequence[Any] = [arguments.get("root", ""), *arguments.get("more_roots", ())]
    return [
        type(data).__qualname__,
        {name: _described(value) for name, value in arguments.items()},
        *(_signature(str(folder)) for folder in folders),
    ]


@cache
def _signature(folder: str) -> tuple[int, int, int]:
    """Return number and bytes of files below a folder, and the time of the latest change in nanoseconds."""
    found = [entry.stat() for entry in Path(folder).expanduser().rglob("*") if entry.is_file()] if folder else []
    return len(found), sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=0)


def _described(value: Any) -> Any:
    return [type(value).__qualname__, init_args(value)] if isinstance(value, nn.Module) else value
