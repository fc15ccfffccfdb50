"""Errors that come of too little disk or memory are known as such, whoever raises them."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from splitlearn.cli.messages import one_sentence
from splitlearn.files import whole_file
from splitlearn.shortage import described, shortage


def test_memory_that_is_not_there() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(1 << 60, np.uint8)
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(1 << 60, dtype=torch.uint8)
    for caught in (of_numpy.value, of_torch.value, torch.OutOfMemoryError("CUDA out of memory.")):
        assert shortage(caught) == "memory"


@pytest.mark.parametrize("error", [ValueError("memory of a file"), KeyError("disk"), FileNotFoundError(2, "No such")])
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
