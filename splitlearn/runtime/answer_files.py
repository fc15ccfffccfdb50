"""Answers of edge servers as they are kept: checked, in JSON, and large arrays in files of their own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.files import whole_file
from splitlearn.runtime.answers import Answer

ARRAYS = "arrays"
LARGEST_IN_TEXT = 4096  # values of an array in the journal; larger ones get files of their own
TABLES = {"classes": "iu", "scores": "iuf", "boxes": "iuf"}  # arrays that get columns, always lists; kinds of numbers
MOST_IN_TABLES = 1 << 20  # values of such an array
MOST_LETTERS = 200  # of a file's name in UTF-8; file systems take 255, and a file in the making has a longer one


class AnswerError(ValueError):
    """An answer has another form than its names say, or cannot be kept."""


def plain(name: str, answer: Answer, folder: Path) -> dict[str, Any]:
    """Return an answer as plain lists; large arrays are written to files (masks as PNG) and replaced by their paths.

    Args:
        name: name of the picture.
        answer: the answer, from a server that is not trusted.
        folder: output folder; paths are relative to it.

    Raises:
        AnswerError: if classes, scores or boxes do not belong together, or a file would lie elsewhere.
    """
    _check(answer)
    return {
        key: array.tolist()
        if key in TABLES or array.size <= LARGEST_IN_TEXT
        else _in_file(f"{name}.{key}", array, folder)
        for key, array in answer.items()
    }


def _check(answer: Answer) -> None:
    """Check the arrays that get columns: classes `(N,)`, scores `(N,)`, boxes `(N, 4)`."""
    found = {key: answer[key] for key in TABLES if key in answer}
    if "boxes" in found and len(found) < len(TABLES):
        raise AnswerError("the server's answer has boxes without classes or scores")
    count = next((len(array) for array in found.values() if array.ndim), 0)
    if any(array.shape != ((count, 4) if key == "boxes" else (count,)) for key, array in found.items()):
        shapes = ", ".join(f"{key} {array.shape}" for key, array in found.items())
        raise AnswerError(f"the server's answer has arrays that do not belong together: {shapes}")
    for key, array in found.items():
        if array.dtype.kind not in TABLES[key]:
            raise AnswerError(f"the server's answer has {key} of the type {array.dtype}")
        if array.size > MOST_IN_TABLES:
            raise AnswerError(f"the server's answer has {array.size:,} values in {key}; {MOST_IN_TABLES:,} can be kept")


def _in_file(stem: str, array: NDArray[Any], folder: Path) -> str:
    content = io.BytesIO()
    is_picture = array.dtype == np.uint8 and array.ndim == 2
    path = folder / ARRAYS / f"{stem}{'.png' if is_picture else '.npy'}"
    if not path.resolve().is_relative_to((folder / ARRAYS).resolve()):
        raise AnswerError(f"an array would be written to {path}, outside {folder / ARRAYS}")
    if len(path.name.encode()) > MOST_LETTERS:
        raise AnswerError(f"an array's file would have a name of {len(path.name.encode())} bytes: {path.name[:40]}…")
    if is_picture:
        Image.fromarray(array).save(content, "PNG")
    else:
        np.save(content, array, allow_pickle=False)
    with whole_file(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return path.relative_to(folder).as_posix()
