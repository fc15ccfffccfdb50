"""Text files as other programs write them."""

from __future__ import annotations

import codecs
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from splitlearn.data.errors import DataError
from splitlearn.shortage import of_machine

__all__ = ["read_text"]

MARKS = {  # longer ones first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(file: Path) -> str:
    """Return a text file's content without its byte-order mark.

    A mark tells UTF-8, UTF-16 or UTF-32. Without one, it is UTF-8, or if it cannot be, the Western European encoding of
    Windows, a superset of Latin-1; a warning then says so.

    Raises:
        DataError: it is no text in any of them, or cannot be read.
    """
    try:
        content = file.read_bytes()
        mark = next((mark for mark in MARKS if content.startswith(mark)), None)
        text = _unmarked(file, content) if mark is None else content.decode(MARKS[mark])
    except (OSError, UnicodeDecodeError) as error:
        if of_machine(error):
            raise
        raise DataError(f"{file} is no readable text file ({error}): save it as UTF-8") from error
    if "\0" in text:
        raise _no_text(file)
    return text


def _no_text(file: Path) -> DataError:
    return DataError(f"{file} is no text file, it holds zero bytes: save it as UTF-8")


def _unmarked(file: Path, content: bytes) -> str:
    if b"\0" in content:  # UTF-16 without its mark, or no text at all
        raise _no_text(file)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
        rank_zero_warn(
            f"{file} is not UTF-8, it is read as Windows-1252 (Latin-1): save it as UTF-8 if names are wrong"
        )
        return text
