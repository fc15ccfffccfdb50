"""Errors that come of too little disk or memory: there may be enough another time."""

from __future__ import annotations

import re
from collections.abc import Iterator

DISK = re.compile(
    r"\[Errno (27|28|122)\]|no space left on device|os error (27|28|122)\b|quota exceeded|disk is full"
    r"|disk of .* is full|free some|PytorchStreamWriter failed writing",
    re.IGNORECASE,
)
MEMORY = re.compile(
    r"\[Errno (12|24)\]|out of memory|MemoryError|OutOfMemory|(can't|cannot|unable to) (mmap|allocate)"
    r"|not enough memory|ALLOC_FAILED|insufficient shared memory|too many open files|can't start new thread"
    r"|DataLoader worker .*(killed by signal|exited unexpectedly)",
    re.IGNORECASE,
)


class ShortageError(Exception):
    """Something that has not been done for want of disk or memory; the message says how to go on."""


def told_shortage(text: str) -> str:
    """Return "disk" or "memory" if an error's text tells that there was too little of it; or else nothing."""
    return "disk" if DISK.search(text) else "memory" if MEMORY.search(text) else ""


def shortage(error: BaseException) -> str:
    """Return "disk" or "memory" if an error, or one that led to it, came of too little of it; or else nothing."""
    return next(filter(None, (told_shortage(_text(each)) for each in origins(error))), "")


def described(error: BaseException) -> str:
    """Return class and message of an error on one line, which tells of a shortage if one led to it."""
    text = _text(error)
    words = {"disk": " (the disk is full)", "memory": " (out of memory)", "": ""}
    return text if told_shortage(text) else text + words[shortage(error)]


def origins(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that led to it."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is each for each in seen):
        seen.append(following)
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
