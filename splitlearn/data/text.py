"""Reading of text files in various encodings."""

from __future__ import annotations

import codecs
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from splitlearn.decoding import DataError
from splitlearn.resource_errors import raised_as

__all__ = ["read_text"]

MARKS = {  # UTF-32 before UTF-16, since the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(file: Path) -> str:
    """Return the content of a text file without its byte-order mark.

    The mark determines the encoding: UTF-8, UTF-16 or UTF-32. A file without mark is read as UTF-8 or, if it is not
    valid UTF-8, as Windows-1252, a superset of Latin-1, with a warning. Raises DataError if it is no text in any of
    these encodings, or cannot be read.
    """
    with raised_as(
        lambda error: DataError(f"{file} is no readable text file ({error}): save it as UTF-8"),
        (OSError, UnicodeDecodeError),
    ):
        content = file.read_bytes()
        mark = next((mark for mark in MARKS if content.startswith(mark)), None)
        text = _unmarked(file, content) if mark is None else content.decode(MARKS[mark])
    if "\0" in text:
        raise _no_text(file)
    return text


def _no_text(file: Path) -> DataError:
    return DataError(f"{file} is no text file, since it contains zero bytes: save it as UTF-8")


def _unmarked(file: Path, content: bytes) -> str:
    if b"\0" in content:  # UTF-16 without its mark, or no text at all
        raise _no_text(file)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
        rank_zero_warn(
            f"{file} is not UTF-8 and is read as Windows-1252 (Latin-1): save it as UTF-8 if names are wrong"
        )
        return text
