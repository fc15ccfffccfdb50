"""Several containers in one payload: each but the last is preceded by its length."""

from __future__ import annotations

from collections.abc import Sequence

from splitlearn.codecs import CodecError, tagged, untagged
from splitlearn.codecs.container import read_varint, varint


def join_parts(parts: Sequence[bytes]) -> bytes:
    """Return one payload that holds `parts`, in order. A single part is the payload itself: no byte is added."""
    return b"".join(varint(len(part)) + part for part in parts[:-1]) + parts[-1]


def split_parts(payload: bytes, count: int) -> list[bytes]:
    """Return the `count` parts that `join_parts` put together.

    Raises:
        CodecError: if the payload ends inside a part.
    """
    parts, start = [], 0
    for _ in range(count - 1):
        length, start = read_varint(payload, start)
        if start + length > len(payload):
            raise CodecError(f"payload of {len(payload)} bytes ends inside one of its {count} tensors: it is truncated")
        parts.append(payload[start : start + length])
        start += length
    return [*parts, payload[start:]]


def tag_message(payload: bytes, count: int, tag: int) -> bytes:
    """Return a payload of `count` containers, the first of which carries a tag; it grows by nothing."""
    first, *others = split_parts(payload, count)
    return join_parts([tagged(first, tag), *others])


def untag_message(payload: bytes, count: int) -> tuple[int, bytes]:
    """Return the tag of a payload of `count` containers, and the payload without it.

    Raises:
        CodecError: if the payload ends inside a part, or does not begin with a container.
    """
    first, *others = split_parts(payload, count)
    tag, plain = untagged(first)
    return tag, join_parts([plain, *others])
