"""Writing and reading of the frames between device and edge server; docs/protocol.md has their layout.

All numbers are little-endian. Nothing is unpickled, and every length is compared with the received bytes before memory
of that size is allocated. `read` of each class parses the body of a frame; it raises `FrameError` for any other form
than that of the protocol, also for trailing bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from struct import Struct, error
from typing import Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from splitlearn.runtime.errors import Code, FrameError
from splitlearn.runtime.frames import frame

Answer = Mapping[str, NDArray[Any]]  # named arrays of one image

MAGIC = b"SPLT"
VERSION = 2
NO_ID = 2**64 - 1  # in an ERROR: the whole connection
NO_RATE = 255
HELLO_BYTES = 1024  # largest frame before WELCOME, in either direction
SENTENCE_BYTES = 900  # largest sentence of an ERROR
MOST_DIMENSIONS = 16
FINGERPRINT_BYTES = 32
CHECKSUM_BYTES = 4
DTYPES = tuple(np.dtype(name) for name in ("?", "u1", "<i4", "<i8", "<f2", "<f4", "<f8"))  # by their code
ARRAY_NAME = re.compile("[A-Za-z0-9_]{1,255}")  # names become parts of file names, so no dots, slashes or spaces
_BYTES = [bytes([number]) for number in range(256)]
_DTYPE_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}

_HELLO, _WELCOME = Struct("<4sH32sH"), Struct("<H32sIII")
_REQUEST, _ANSWER, _ERROR, _NUMBER = Struct("<QIBB"), Struct("<QII"), Struct("<QH"), Struct("<Q")


class Type(IntEnum):
    """Types of frames."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    ANSWER = 4
    ERROR = 5
    PING = 6
    PONG = 7
    GOODBYE = 8


class Kind(IntEnum):
    """Kinds of content of a request."""

    PAYLOAD = 0
    PICTURE = 1  # an image file
    FRAME = 2  # of the connection's stream


class Hello(NamedTuple):
    """The client's first frame: fingerprint of its package, and its token (may be empty)."""

    fingerprint: bytes
    token: str = ""
    version: int = VERSION

    def frame(self) -> bytes:
        """Return the frame; raise ValueError if the token is too long."""
        token = self.token.encode()
        if _HELLO.size + len(token) + 1 > HELLO_BYTES:
            raise ValueError(f"a token takes at most {HELLO_BYTES - _HELLO.size - 1} bytes, this one {len(token)}")
        return frame(Type.HELLO, _HELLO.pack(MAGIC, self.version, self.fingerprint, len(token)), token)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the HELLO of a body; for another protocol version, fingerprint and token are empty."""
        if body[:4] != MAGIC or len(body) < 6:
            raise FrameError(Code.BAD_FRAME, "the first frame is no HELLO of this protocol")
        if (version := int.from_bytes(body[4:6], "little")) != VERSION:
            return cls(b"", "", version)
        _, _, fingerprint, length = _unpack(_HELLO, body)
        token = body[_HELLO.size :]
        if len(token) != length:
            raise FrameError(Code.BAD_FRAME, f"a HELLO with {len(token)} bytes of token, {length} announced")
        return cls(fingerprint, _text(token))


class Welcome(NamedTuple):
    """The server's first frame: fingerprint of its package, and its limits for this client."""

    fingerprint: bytes
    frame_bytes: int
    in_flight: int
    idle_ms: int
    version: int = VERSION

    def frame(self) -> bytes:
        """Return the frame."""
        numbers = self.frame_bytes, self.in_flight, self.idle_ms
        return frame(Type.WELCOME, _WELCOME.pack(self.version, self.fingerprint, *numbers))

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the WELCOME of a body."""
        _exactly(_WELCOME.size, body)
        version, fingerprint, frame_bytes, in_flight, idle_ms = _unpack(_WELCOME, body)
        if not in_flight or not frame_bytes or not idle_ms:
            raise FrameError(Code.BAD_FRAME, "a WELCOME that takes no requests")
        return cls(fingerprint, frame_bytes, in_flight, idle_ms, version)


class Request(NamedTuple):
    """A payload, an image file behind its checksum, or a frame of a stream, to answer.

    `deadline_ms` is the time limit from its arrival at the server, 0 for none.
    """

    id: int
    payload: bytes
    deadline_ms: int = 0
    rate: int = NO_RATE
    kind: int = Kind.PAYLOAD

    def frame(self) -> bytes:
        """Return the frame."""
        return frame(Type.REQUEST, _REQUEST.pack(self.id, self.deadline_ms, self.rate, self.kind), self.payload)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the REQUEST of a body; kinds are not checked."""
        number, deadline_ms, rate, kind = _unpack(_REQUEST, body)
        if number == NO_ID:
            raise FrameError(Code.BAD_FRAME, "a REQUEST with the id that stands for the connection")
        return cls(number, body[_REQUEST.size :], deadline_ms, rate, kind)


def with_checksum(file: bytes) -> bytes:
    """Return an image file behind its CRC-32, the content of a request of the kind `PICTURE`."""
    return crc32(file).to_bytes(CHECKSUM_BYTES, "little") + file


def without_checksum(content: bytes) -> bytes | None:
    """Return the image file in the content of a request; None if it is damaged."""
    checksum, file = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    is_whole = len(checksum) == CHECKSUM_BYTES and crc32(file) == int.from_bytes(checksum, "little")
    return file if is_whole else None


class AnswerFrame(NamedTuple):
    """The arrays that answer a request, its time in the queue, and the computing time of its batch."""

    id: int
    wait_us: int
    edge_us: int
    arrays: bytes  # as `write_arrays` makes them

    def frame(self) -> bytes:
        """Return the frame."""
        return frame(Type.ANSWER, _ANSWER.pack(self.id, self.wait_us, self.edge_us), self.arrays)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the ANSWER of a body; its arrays are not yet parsed."""
        number, wait_us, edge_us = _unpack(_ANSWER, body)
        return cls(number, wait_us, edge_us, body[_ANSWER.size :])


def answer_bytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Return the size in bytes of the ANSWER frame with these arrays."""
    return len(AnswerFrame(0, 0, 0, write_arrays(arrays)).frame())


class ErrorFrame(NamedTuple):
    """The reason why a request failed, or the connection if the id is `NO_ID`."""

    id: int
    code: int
    sentence: str

    def frame(self) -> bytes:
        """Return the frame; a sentence that is too long is truncated."""
        sentence = self.sentence.encode()[:SENTENCE_BYTES].decode(errors="ignore").encode()
        return frame(Type.ERROR, _ERROR.pack(self.id, self.code), sentence)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the ERROR of a body; control characters are replaced by spaces."""
        number, code = _unpack(_ERROR, body)
        sentence = _text(body[_ERROR.size : _ERROR.size + SENTENCE_BYTES])
        return cls(number, code, "".join(letter if letter.isprintable() else " " for letter in sentence))


def number_frame(kind: Type, number: int) -> bytes:
    """Return a PING or PONG."""
    return frame(kind, _NUMBER.pack(number))


def read_number(body: bytes) -> int:
    """Return the number of a PING or PONG."""
    _exactly(_NUMBER.size, body)
    return int(_unpack(_NUMBER, body)[0])


def goodbye_frame() -> bytes:
    """Return a GOODBYE."""
    return frame(Type.GOODBYE)


def write_arrays(answer: Answer) -> bytes:
    """Return an answer's arrays as bytes.

    Raises:
        ValueError: if there are more than 255, a name is not 1 to 255 ASCII letters, digits and underscores, or the
            protocol has no code for the type or the number of dimensions of an array.
    """
    if len(answer) > 255:
        raise ValueError(f"an answer has at most 255 arrays, this one {len(answer)}")
    parts = [_BYTES[len(answer)]]
    for name, array in answer.items():
        parts.append(_array_head(name, array.dtype, array.shape))
        parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return b"".join(parts)


@lru_cache(1024)
def _array_head(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of an array, which is equal for all answers of one network."""
    code = _DTYPE_CODES.get(dtype.newbyteorder("<"))
    if code is None or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"array {name!r} of {dtype} with {len(shape)} dimensions cannot be sent")
    if not ARRAY_NAME.fullmatch(name):
        raise ValueError(f"an array's name is 1 to 255 ASCII letters, digits and underscores, not {name!r}")
    sizes = b"".join(size.to_bytes(4, "little") for size in shape)
    return bytes([len(name)]) + name.encode() + bytes([code, len(shape)]) + sizes


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays in bytes from `write_arrays`; they own their memory and are no larger than `data`.

    Raises:
        FrameError: if the bytes have another form.
    """
    found: dict[str, NDArray[Any]] = {}
    reader = _Reader(data)
    for _ in range(reader.byte()):
        letters = reader.take(reader.byte())
        name, code, dimensions = _text(letters), reader.byte(), reader.byte()
        if not ARRAY_NAME.fullmatch(name) or name in found or code >= len(DTYPES) or dimensions > MOST_DIMENSIONS:
            raise FrameError(Code.BAD_FRAME, f"an array {name!r} of type {code} with {dimensions} dimensions")
        sizes = reader.take(4 * dimensions)
        shape = tuple(int.from_bytes(sizes[i : i + 4], "little") for i in range(0, len(sizes), 4))
        raw = reader.take(math.prod(shape) * DTYPES[code].itemsize)
        if DTYPES[code] == np.bool_ and raw.strip(b"\0\1"):
            raise FrameError(Code.BAD_FRAME, f"array {name!r} holds truth values other than 0 and 1")
        try:
            found[name] = np.frombuffer(raw, DTYPES[code]).reshape(shape).copy()
        except ValueError as problem:  # sizes beside a 0 that are too large for numpy
            raise FrameError(Code.BAD_FRAME, f"array {name!r} cannot have the shape {shape}") from problem
    if reader.left():
        raise FrameError(Code.BAD_FRAME, f"{reader.left()} bytes behind the last array")
    return found


class _Reader:
    """Reads values from bytes in order; raises FrameError at their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left():
            raise FrameError(Code.BAD_FRAME, f"{length} bytes announced, {self.left()} left")
        self._at += length
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        return self.take(1)[0]


def _unpack(layout: Struct, body: bytes) -> tuple[Any, ...]:
    try:
        return layout.unpack_from(body)
    except error as problem:
        raise FrameError(Code.BAD_FRAME, f"a frame of {len(body)} bytes, too short for its type") from problem


def _exactly(size: int, body: bytes) -> None:
    if len(body) != size:
        raise FrameError(Code.BAD_FRAME, f"a frame of {len(body)} bytes instead of {size}")


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
