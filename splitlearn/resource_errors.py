"""Errors due to a lack of disk space or memory, which may be temporary."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

Kinds: TypeAlias = type[Exception] | tuple[type[Exception], ...]

DISK = re.compile(
    r"\[Errno (27|28|122)\]|no space left on device|os error (27|28|122)\b|disk quota exceeded|\bdisk is full"
    r"|PytorchStreamWriter failed writing",
    re.IGNORECASE,
)
MEMORY = re.compile(
    r"\[Errno (12|24)\]|out of memory|MemoryError|OutOfMemory|(can't|cannot|unable to) (mmap|allocate)"
    r"|not enough memory|ALLOC_FAILED|insufficient shared memory|too many open files|can't start new thread"
    r"|DataLoader worker .*(killed by signal|exited unexpectedly)",
    re.IGNORECASE,
)
BRIEF = 300  # characters of a message that is quoted in another


class ShortageError(Exception):
    """A lack of disk space or memory; the message says how to continue."""


def shortage_in(text: str) -> str:
    """Return "disk" or "memory" if an error's text reports a lack of it, otherwise an empty string."""
    return "disk" if DISK.search(text) else "memory" if MEMORY.search(text) else ""


def shortage(error: BaseException) -> str:
    """Return "disk" or "memory" if an error or its cause is due to a lack of it, otherwise an empty string."""
    return next(filter(None, (shortage_in(_text(each)) for each in origins(error))), "")


def of_machine(error: BaseException) -> bool:
    """Return whether an error is due to the machine: lack of disk space or memory, or a disk failure.

    Such an error does not mean that the file being read is damaged, and should be raised unchanged.
    """
    fails = (isinstance(each, OSError) and each.errno == errno.EIO for each in origins(error))
    return shortage(error) != "" or any(fails)


class raised_as:
    """Context manager that raises errors of its block as others, except for those `of_machine`.

    Args:
        convert: makes the other error, e.g. `lambda error: DataError(f"{file} is damaged ({error})")`.
        kinds: classes to convert.
        but: classes to raise unchanged.
    """

    def __init__(self, convert: Callable[[Exception], Exception], kinds: Kinds = Exception, but: Kinds = ()) -> None:
        self.convert, self.kinds, self.but = convert, kinds, but

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the converted error."""
        if isinstance(error, self.kinds) and not isinstance(error, self.but) and not of_machine(error):
            raise self.convert(error) from error


def described(error: BaseException) -> str:
    """Return class and message of an error on one line, with a note if a shortage caused it."""
    text = _text(error)
    words = {"disk": " (the disk is full)", "memory": " (out of memory)", "": ""}
    return text if shortage_in(text) else text + words[shortage(error)]


def brief(error: BaseException) -> str:
    """Return the start of an error's message on one line, or its class, to be quoted in another message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= BRIEF else f"{text[:BRIEF]} …"


def origins(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is each for each in seen):
        seen.append(following)
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
