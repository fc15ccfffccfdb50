"""Errors that come of too little disk or memory are known as such, whoever raises them."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splitlearn.analysis import read_activations
from splitlearn.config.messages import one_sentence, place_of
from splitlearn.data.checks import tried
from splitlearn.data.masks import read_ids
from splitlearn.data.text import read_text
from splitlearn.decoding import decode_rgb, shown_shape
from splitlearn.deploy.bottleneck_file import export_errors
from splitlearn.files import whole_file
from splitlearn.models import load_weights
from splitlearn.models.networks.weight_files import read_pickled_modules
from splitlearn.resource_errors import brief, described, shortage
from splitlearn.tasks.loading import read_checkpoint


def test_memory_that_is_not_there() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(1 << 60, np.uint8)
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(1 << 60, dtype=torch.uint8)
    for caught in (of_numpy.value, of_torch.value, torch.OutOfMemoryError("CUDA out of memory.")):
        assert shortage(caught) == "memory"


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("memory of a file"), KeyError("disk"), FileNotFoundError(2, "No such")),
        *(
            ValueError("give free something"),
            RuntimeError("quota exceeded"),
            ValueError("the disk of one is full of it"),
        ),
    ],
)
def test_other_errors_are_others(error: Exception) -> None:
    assert shortage(error) == ""
    assert described(error).startswith(type(error).__name__)


def test_what_led_to_an_error_counts() -> None:
    inner = OSError(errno.EDQUOT, "Disk quota exceeded")
    outer = ValueError("it cannot be written")
    outer.__cause__ = inner
    assert shortage(outer) == "disk"
    assert described(outer) == "ValueError: it cannot be written (the disk is full)"
    inner.__context__ = outer  # a ring
    assert shortage(KeyError("x")) == ""
    assert described(MemoryError()) == "MemoryError: "


def test_what_an_error_hides_is_not_told_as_its_place() -> None:
    inner, outer = ValueError(), KeyError()
    try:
        raise inner
    except ValueError:
        outer.__context__ = inner
    assert "test_resource_errors.py, line" in place_of(outer)
    outer.__suppress_context__ = True  # as `from None` does
    assert place_of(outer) == ""


def test_errors_in_the_sentences_of_others_are_brief() -> None:
    assert brief(ValueError("one\n  two")) == "one two"
    assert brief(KeyError()) == "KeyError"
    assert brief(ValueError("x" * 400)) == "x" * 300 + " …"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),  # as a write raises it, without a path
        OSError(errno.EFBIG, "File too large"),  # a limit of the user's, ulimit -f
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"),
    ],
)
def test_a_full_disk_is_told_with_path_and_remedy(tmp_path: Path, error: Exception) -> None:
    def write() -> None:
        with whole_file(tmp_path / "results.json"):
            raise error

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    message = f"the disk is full ({tmp_path / 'results.json'}): free some space; what was saved before is intact"
    assert one_sentence(caught.value) == message


def read_weights(path: Path) -> None:
    load_weights(torch.nn.Linear(1, 1), path)


def rebuild(path: Path) -> None:
    with export_errors(path):
        path.read_bytes()


READERS: list[Callable[[Path], object]] = [
    *(decode_rgb, shown_shape, read_ids, read_text, read_weights, read_pickled_modules, read_checkpoint, rebuild),
    *(lambda path: read_activations(path, None, 2), lambda path: tried(Path.open, path)),
]


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "I/O")]
)
@pytest.mark.parametrize("read", READERS)
def test_a_file_is_not_blamed_for_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "file.npy"
    path.write_bytes(b"anything")
    for owner, name in ((Image, "open"), (torch, "load"), (np, "load"), (zipfile, "ZipFile"), (Path, "read_bytes")):
        monkeypatch.setattr(owner, name, fail)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(type(error)) as caught:
        read(path)
    assert caught.value is error


def test_files_that_are_not_here_are_no_code_of_the_user() -> None:
    with pytest.raises(ZeroDivisionError) as caught:  # as from a compiled module, whose file is named relatively
        exec(compile("1 / 0", "compiled/error.py", "exec"))
    assert "compiled" not in place_of(caught.value)
