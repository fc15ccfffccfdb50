"""Frames of a TCP connection, each with length, type and body: writing, and reading from a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from splitlearn.runtime.errors import Code, FrameError

_HEAD = Struct("<IB")
_LENGTH_BYTES = 4


def frame(kind: int, *parts: bytes) -> bytes:
    """Return a frame: u32 length of type and body, u8 type, then the parts of the body."""
    return b"".join((_HEAD.pack(1 + sum(map(len, parts)), kind), *parts))


class FrameReader:
    """Divides a stream of bytes into frames, with at most one unfinished frame in memory.

    A length above the limit is refused as soon as its four bytes are read, so no memory of that size is allocated.

    Attributes:
        most_bytes: largest length of a frame, its type included; may be changed between frames.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._unfinished = bytearray()
        self._needed = _LENGTH_BYTES

    @property
    def held_bytes(self) -> int:
        """Number of bytes of the unfinished frame."""
        return len(self._unfinished)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield type and body of each frame that these bytes complete.

        Args:
            data: the next bytes of the stream.

        Raises:
            FrameError: if a length is 0 or above the limit; no more frames can be read afterwards.
        """
        if self._unfinished:
            self._unfinished += data
            if len(self._unfinished) < self._needed:
                return
            data = bytes(self._unfinished)
            self._unfinished = bytearray()
        start, size, needed = 0, len(data), _LENGTH_BYTES
        while size - start >= _LENGTH_BYTES:
            length = int.from_bytes(data[start : start + _LENGTH_BYTES], "little")
            if not 1 <= length <= self.most_bytes:
                raise FrameError(
                    Code.TOO_LARGE if length else Code.BAD_FRAME,
                    f"a frame of {length:,} bytes; the largest here is {self.most_bytes:,}, the smallest 1",
                )
            body = start + _LENGTH_BYTES + 1
            end = body - 1 + length
            if end > size:
                needed += length
                break
            yield data[body - 1], data[body:end]
            start = end
        self._needed = needed
        self._unfinished += data[start:]
