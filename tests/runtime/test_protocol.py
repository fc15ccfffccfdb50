"""Frames of the protocol: what is written is read, and whatever else comes is refused, never more."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from splitlearn.runtime.errors import BusyError, Code, EdgeError, FrameError, RefusedError, error_of
from splitlearn.runtime.frames import FrameReader, frame
from splitlearn.runtime.protocol import (
    DTYPES,
    HELLO_BYTES,
    NO_ID,
    SENTENCE_BYTES,
    VERSION,
    AnswerFrame,
    ErrorFrame,
    Hello,
    Kind,
    Request,
    Type,
    Welcome,
    goodbye_frame,
    number_frame,
    read_arrays,
    read_number,
    with_checksum,
    write_arrays,
)

DOCUMENT = Path(__file__).parents[2] / "docs/protocol.md"
FINGERPRINT = b"\xab" * 32
READERS: list[Callable[[bytes], object]] = [
    Hello.read,
    Welcome.read,
    Request.read,
    AnswerFrame.read,
    ErrorFrame.read,
    read_number,
    with_checksum,
    read_arrays,
]

shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
answers = st.dictionaries(
    st.from_regex("[A-Za-z0-9_]{1,12}", fullmatch=True),
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, shapes)),
    max_size=4,
)


def body(data: bytes) -> bytes:
    """Return the body of the one frame in `data`."""
    ((_, found),) = FrameReader(len(data)).feed(data)
    return found


@settings(max_examples=50)
@given(answers)
def test_arrays_come_back(answer: dict[str, NDArray[Any]]) -> None:
    found = read_arrays(write_arrays(answer))
    assert list(found) == list(answer)
    for name, array in answer.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


def test_arrays_of_any_layout_come_back() -> None:
    whole = np.arange(24).reshape(4, 6)
    for array in (whole[::2, ::-1], whole.T, whole.astype(">i8"), whole.astype(">f4")):
        found = read_arrays(write_arrays({"a": array}))["a"]
        assert found.dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "answer",
    [
        {"a": np.zeros(1, np.complex64)},
        {"a": np.array(["text"])},
        {"a": np.array([None])},
        {"": np.zeros(1)},
        {"é": np.zeros(1)},
        {"a" * 256: np.zeros(1)},
        {"a": np.zeros((1,) * 17)},
        {str(n): np.zeros(1) for n in range(256)},
    ],
)
def test_arrays_that_the_protocol_does_not_carry(answer: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(ValueError, match="array"):
        write_arrays(answer)


@given(st.binary(max_size=200), st.sampled_from(READERS))
def test_any_bytes_are_read_or_refused(data: bytes, read: Callable[[bytes], object]) -> None:
    with contextlib.suppress(FrameError):
        read(data)


@settings(max_examples=50)
@given(answers, st.data())
def test_cut_and_longer_arrays_are_refused(answer: dict[str, NDArray[Any]], data: st.DataObject) -> None:
    written = write_arrays(answer)
    for damaged in (written[: data.draw(st.integers(0, len(written) - 1))], written + b"\0"):
        with pytest.raises(FrameError):
            read_arrays(damaged)


def test_announced_sizes_are_never_allocated() -> None:
    name = b"\x01\x01a\x05"
    huge = b"\xff\xff\xff\xff"
    forged = [
        name + b"\x01" + huge,
        name + b"\x10" + huge * 16,
        name + b"\x02" + huge + b"\0" * 4 + b"\0",
        name + b"\xff",
    ]
    forged.append(name + b"\x10" + huge * 15 + b"\0" * 4)  # no value, in a shape that numpy refuses
    forged.append(b"\x01\x01a\x00\x01\x01\0\0\0\x02")  # a truth value of 2
    tracemalloc.start()
    for data in forged:
        with pytest.raises(FrameError):
            read_arrays(data)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8), st.data())
def test_frames_come_back_however_they_are_cut(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(kind, content) for kind, content in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader(41)
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [found for part in parts for found in reader.feed(part)] == frames
    assert reader.held_bytes == 0


def test_a_length_is_refused_before_its_bytes_come() -> None:
    for length, code in ((2**32 - 1, Code.TOO_LARGE), (101, Code.TOO_LARGE), (0, Code.BAD_FRAME)):
        reader = FrameReader(100)
        assert list(reader.feed(length.to_bytes(4, "little")[:3])) == []
        with pytest.raises(FrameError) as found:
            list(reader.feed(length.to_bytes(4, "little")[3:]))
        assert found.value.code == code


def test_an_unfinished_frame_is_all_that_is_held() -> None:
    reader = FrameReader(1000)
    whole = frame(Type.REQUEST, b"x" * 999)
    for byte in whole[:-1]:
        assert list(reader.feed(bytes([byte]))) == []
    assert reader.held_bytes == len(whole) - 1
    assert list(reader.feed(whole[-1:] + whole[:5])) == [(Type.REQUEST, b"x" * 999)]
    assert reader.held_bytes == 5


def test_frames_are_read_as_written() -> None:
    for hello in (Hello(FINGERPRINT), Hello(FINGERPRINT, "geheim – ß")):
        assert Hello.read(body(hello.frame())) == hello
    welcome = Welcome(FINGERPRINT, 1 << 20, 64, 60_000)
    assert Welcome.read(body(welcome.frame())) == welcome
    request = Request(7, b"payload", 250, 2)
    assert Request.read(body(request.frame())) == request
    answer = AnswerFrame(7, 100, 2000, b"\0")
    assert AnswerFrame.read(body(answer.frame())) == answer
    error = ErrorFrame(NO_ID, Code.BUSY, "much to do")
    assert ErrorFrame.read(body(error.frame())) == error
    assert read_number(body(number_frame(Type.PING, 2**64 - 1))) == 2**64 - 1
    assert body(goodbye_frame()) == b""


def test_other_versions_are_known_by_their_first_six_bytes() -> None:
    assert Hello.read(b"SPLT\x01\x00 and whatever") == Hello(b"", "", 1)
    assert VERSION == 2


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1", b"SPLT\x02\x00", body(Hello(FINGERPRINT, "abc").frame())[:-1]]
)
def test_what_is_no_hello(data: bytes) -> None:
    with pytest.raises(FrameError):
        Hello.read(data)


def test_bounds_of_what_is_written() -> None:
    longest = "x" * (HELLO_BYTES - 41)
    assert len(Hello(FINGERPRINT, longest).frame()) == HELLO_BYTES + 4
    with pytest.raises(ValueError, match="a token takes at most 983 bytes"):
        Hello(FINGERPRINT, longest + "x").frame()
    sentence = ErrorFrame.read(body(ErrorFrame(1, 1, "é" * 1000).frame())).sentence
    assert sentence == "é" * (SENTENCE_BYTES // 2)


def test_sentences_cannot_control_a_terminal() -> None:
    assert ErrorFrame.read(body(ErrorFrame(1, 1, "a\x1b[2Jb\nc").frame())).sentence == "a [2Jb c"


def test_codes_become_exceptions() -> None:
    assert type(error_of(Code.FOREIGN_FINGERPRINT, "")) is RefusedError
    assert type(error_of(Code.BUSY, "")) is BusyError
    assert type(error_of(999, "")) is EdgeError
    assert error_of(999, "of a later version").code == 999


def test_the_example_of_the_document() -> None:
    example = DOCUMENT.read_text().split("## Example")[1].split("```")[1]
    told = {found[1]: bytes.fromhex(found[2]) for found in re.finditer(r"([A-Z]+)((?:\s+[0-9a-f]{2}\b)+)", example)}
    arrays = write_arrays({"logits": np.array([0.5, -1], np.float32)})
    assert told == {
        "HELLO": Hello(FINGERPRINT, "secret").frame(),
        "WELCOME": Welcome(FINGERPRINT, 8 << 20, 64, 60_000).frame(),
        "REQUEST": Request(7, b"\1\2\3", 250, 2).frame(),
        "PICTURE": Request(8, with_checksum(b"\1\2\3"), 250, kind=Kind.PICTURE).frame(),
        "FRAME": Request(9, bytes.fromhex("d005000000010203"), 250, 0, Kind.FRAME).frame(),
        "ANSWER": AnswerFrame(7, 100, 2000, arrays).frame(),
        "ERROR": ErrorFrame(7, Code.BUSY, "busy").frame(),
        "PING": number_frame(Type.PING, 1),
        "GOODBYE": goodbye_frame(),
    }


def test_the_codes_of_the_document() -> None:
    table = DOCUMENT.read_text().split("| code | meaning |")[1].split("\n\n")[0]
    assert [int(n) for n in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == [int(code) for code in Code]


@pytest.mark.parametrize("module", ["splitlearn.runtime", "splitlearn.runtime.protocol"])
def test_devices_need_numpy_alone(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert module in done.stdout.split()
    assert not set(done.stdout.split()) & {"torch", "lightning", "onnxruntime", "numba", "jsonargparse", "scipy"}
