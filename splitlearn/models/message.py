"""Several containers in one payload: each but the last is preceded by its length."""

from __future__ import annotations

from collections.abc import Sequence

from splitlearn.codecs import CodecError


def join_parts(parts: Sequence[bytes]) -> bytes:
    """Return one payload that holds `parts`, in order. A single part is the payload itself: no byte is added."""
    return b"".join(_varint(len(part)) + part for part in parts[:-1]) + parts[-1]


def split_parts(payload: bytes, count: int) -> list[bytes]:
    """Return the `count` parts that `join_parts` put together.

    Raises:
        CodecError: if the payload ends inside a part.
    """
    parts, start = [], 0
    for _ in range(count - 1):
        length, start = _read_varint(payload, start)
        if start + length > len(payload):
            raise CodecError(f"payload of {len(payload)} bytes ends inside one of its {count} tensors: it is truncated")
        parts.append(payload[start : start + length])
        start += length
    return [*parts, payload[start:]]


def _varint(value: int) -> bytes:
    """Return `value` in LEB128: seven bits a byte, the lowest first, the high bit set on all but the last."""
    code = bytearray()
    while value >= 0x80:
        code.append(value & 0x7F | 0x80)
        value >>= 7
    code.append(value)
    return bytes(code)


def _read_varint(payload: bytes, start: int) -> tuple[int, int]:
    value = 0
    for shift, byte in zip(range(0, 35, 7), payload[start : start + 5], strict=False):
        value |= (byte & 0x7F) << shift
        start += 1
        if byte < 0x80:
            return value, start
    raise CodecError("payload has no valid length before its tensor: it is truncated or damaged")
