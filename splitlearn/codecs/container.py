"""Container for the encoded symbols of one image: a header with shape and checksum, then the bytes of the codec.

Layout, little-endian throughout::

    1  magic byte 0xC5                     4  checksum
    1  version << 4 | dimensions           …  dimensions, LEB128 varints
    1  number of floats                    4  each float, IEEE 754 single precision
    1  identity of the codec, low byte     …  bare code: the bytes of the codec
    1  levels − 1

The checksum is the CRC-32 of everything else, exclusive-or the codec's identity and the context. It detects every
change within 32 neighbouring bits, and any other change with probability 1 − 2⁻³².

The low three bits of the magic byte are spare: they may carry a tag, a number 0…7 that costs no byte and is covered by
the checksum (`tagged`, `untagged`). Banks of rates store the rate of a payload there.
"""

from __future__ import annotations

import math
import operator
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import (
    MAX_ELEMENTS,
    Codec,
    CodecError,
    Payload,
    as_array,
    checked_dimensions,
    checked_levels,
    checked_shape,
)
from splitlearn.numpy_quantizers import checked_integer

MAGIC = 0xC5
TAGS = 8  # values of the low three bits of the magic byte
VERSION = 1
MAX_UNPACKED = 1 << 25  # default limit of symbols for a receiver, twice that of an R-CNN's layer1
_CHECK = 5  # offset of the checksum
_START = 9  # offset of the dimensions


@dataclass(frozen=True)
class Header:
    """Header of a container.

    Attributes:
        shape: shape of the symbol array.
        levels: size of the alphabet, 2…256.
        floats: numbers that the quantizer needs to restore the values.
        body: position of the codec's bytes in the container.
    """

    shape: tuple[int, ...]
    levels: int
    floats: tuple[float, ...]
    body: int

    def check(self, shape: Sequence[int] | None, max_elements: int) -> None:
        """Raise CodecError unless the array has this shape or, without one, at most `max_elements` elements."""
        if shape is not None:
            if self.shape != checked_shape(shape):
                raise CodecError(f"the payload holds an array of shape {self.shape}, not of {tuple(shape)}")
        elif math.prod(self.shape) > max_elements:
            raise CodecError(
                f"the payload claims to hold {math.prod(self.shape):,} symbols, and max_elements is {max_elements:,}: "
                "set a larger one if you trust its sender"
            )


def pack(
    symbols: NDArray[np.uint8], levels: int, codec: Codec, floats: Sequence[float] = (), context: int = 0
) -> bytes:
    """Return `symbols`, encoded by `codec`, in a container that `unpack` can check.

    Args:
        symbols: uint8 array of at most 15 dimensions, every value below `levels`.
        levels: size of the alphabet, 2…256.
        codec: the codec; `unpack` needs one of the same class with the same static tables.
        floats: at most 255 floats of the quantizer, each rounded to single precision.
        context: 32-bit checksum of all that both sides must share besides the codec, such as the quantizer's settings.
            It is part of the container's checksum and costs no byte.

    Returns:
        9 bytes, 2 for each dimension up to 16,383 (1 up to 127), 4 for each float, then the bare code.

    Raises:
        ValueError: if the symbols do not fit `levels`, there are too many dimensions or floats, or a float exceeds the
            range of single precision.
    """
    return pack_code(codec.encode(symbols, levels), symbols.shape, levels, codec, floats, context)


def pack_code(
    code: bytes, shape: tuple[int, ...], levels: int, codec: Codec, floats: Sequence[float] = (), context: int = 0
) -> bytes:
    """Return a container for `code`, the bytes that `codec` wrote for an array of `shape`; else as `pack`."""
    return sealed(code, checked_dimensions(shape), checked_levels(levels), codec, floats, operator.index(context))


def sealed(
    code: bytes, shape: tuple[int, ...], levels: int, codec: Codec, floats: Sequence[float], context: int
) -> bytes:
    """Return a container as `pack_code`; shape and levels must be Python integers that are already checked."""
    if max(shape, default=0) > MAX_ELEMENTS:
        raise ValueError(f"a dimension of a container is at most 2³¹−1, got shape {shape}")
    with np.errstate(over="ignore"):
        values = np.asarray(floats, np.float64).reshape(-1).astype("<f4")
    if len(shape) > 15 or values.size > 255:
        raise ValueError(f"a container takes 15 dimensions and 255 floats, got {len(shape)} and {values.size}")
    if np.any(np.isinf(values) & np.isfinite(np.asarray(floats, np.float64).reshape(-1))):
        raise ValueError(f"a float passes the range of single precision: {tuple(floats)}")
    if not 0 <= context < 1 << 32:
        raise ValueError(f"the context must be a number of 32 bits, got {context}")
    identity = codec.identity ^ context
    start = bytes((MAGIC, VERSION << 4 | len(shape), values.size, identity & 255, levels - 1))
    return _with_check(start, b"".join((*map(varint, shape), values.tobytes(), code)), identity)


def tagged(payload: Payload, tag: int) -> bytes:
    """Return a container of the same size with a number 0…7 in the low bits of its first byte.

    The checksum covers the tag. A tag of 0 leaves a container unchanged; before `unpack`, other tags must be removed
    by `untagged`.

    Args:
        payload: bytes written by `pack`.
        tag: the number.

    Raises:
        ValueError: if the number is out of range.
        CodecError: if the payload is not a container.
    """
    tag = checked_integer("a tag", tag, 0, TAGS - 1)
    return _with_first_byte(untagged(payload)[1], MAGIC ^ tag)


def untagged(payload: Payload) -> tuple[int, bytes]:
    """Return the tag of a container, and the container without it for `unpack`.

    A damaged payload keeps a wrong checksum, so `unpack` still detects the damage, also that of the tag.

    Args:
        payload: bytes written by `tagged` or `pack`.

    Raises:
        CodecError: if the payload is not a container.
    """
    payload = as_bytes(payload)
    if len(payload) < _START or (tag := payload[0] ^ MAGIC) >= TAGS:
        raise CodecError("the payload is damaged or not a splitlearn container")
    return tag, _with_first_byte(payload, MAGIC)


def unpack(
    payload: Payload,
    codec: Codec,
    context: int = 0,
    *,
    shape: Sequence[int] | None = None,
    max_elements: int = MAX_UNPACKED,
) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Return the symbols and floats of a container.

    A checksum detects damage but is not a signature: a forged payload of a few bytes can claim any number of symbols.
    Pass the shape if it is known.

    Args:
        payload: bytes written by `pack`.
        codec: a codec of the same class, arguments and static tables as for `pack`.
        context: the same number as for `pack`.
        shape: required shape of the array; None for any.
        max_elements: largest number of symbols, if no shape is given.

    Returns:
        The symbols, a new array of the packed shape, and the floats.

    Raises:
        CodecError: if the payload is damaged, was packed with another codec, static tables or context, or has another
            shape or too many symbols. This is checked before memory is allocated.
    """
    payload = as_bytes(payload)
    header = read_header(payload, codec, context)
    header.check(shape, max_elements)
    return decode_body(payload, header, codec), header.floats


def decode_body(
    payload: bytes, header: Header, codec: Codec, reference: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the symbols of a container with a checked header; raise CodecError as `unpack`.

    `reference` is of the header's shape, with symbols below its levels.
    """
    try:
        code = np.frombuffer(payload, np.uint8, offset=header.body)
        return codec._decode_checked(code, header.shape, header.levels, reference)
    except CodecError:
        raise
    except ValueError as error:  # only a forged header has arguments that a codec refuses
        raise CodecError(f"the header contradicts the codec: {error}") from error


def next_context(payload: bytes, context: int) -> int:
    """Return the context for the next container, in a payload of several containers.

    The result depends on the checksum of the container before, so that an exchange of containers between payloads is
    detected.

    Args:
        payload: the container before.
        context: the context of that container.
    """
    return zlib.crc32(payload[_CHECK:_START], context)


def join_parts(parts: Sequence[bytes]) -> bytes:
    """Return one payload with several containers, in order; a single container is returned unchanged."""
    return b"".join(varint(len(part)) + part for part in parts[:-1]) + parts[-1]


def split_parts(payload: Payload, count: int) -> list[bytes]:
    """Return the `count` containers of a payload that `join_parts` wrote.

    Raises:
        CodecError: if the payload ends inside a part.
    """
    payload, parts, start = as_bytes(payload), [], 0
    for _ in range(count - 1):
        length, start = read_varint(payload, start)
        if start + length > len(payload):
            raise CodecError(f"payload of {len(payload)} bytes ends inside one of its {count} tensors: it is truncated")
        parts.append(payload[start : start + length])
        start += length
    return [*parts, payload[start:]]


def read_header(payload: Payload, codec: Codec, context: int = 0) -> Header:
    """Return shape, levels and floats of a container without decoding its symbols.

    Args:
        payload: bytes written by `pack`.
        codec: a codec equal to the one that `pack` used.
        context: the same number as for `pack`.

    Raises:
        CodecError: as `unpack`.
    """
    payload, context = as_bytes(payload), operator.index(context)
    _verify(payload, codec.identity ^ context, type(codec).__name__)
    if not payload[4]:
        raise CodecError("the header contradicts the codec: levels must be an integer in 2…256, got 1")
    shape, position = [], _START
    for _ in range(payload[1] & 15):
        size, position = read_varint(payload, position)
        shape.append(size)
    body = position + 4 * payload[2]
    if body > len(payload):
        raise CodecError("the payload is damaged: its header passes its end")
    if math.prod(shape) > MAX_ELEMENTS:
        raise CodecError(f"the payload is damaged: shape {tuple(shape)} has more than 2³¹−1 elements")
    floats = tuple(np.frombuffer(payload, "<f4", payload[2], position).tolist())
    return Header(tuple(shape), payload[4] + 1, floats, body)


def _with_first_byte(payload: bytes, first: int) -> bytes:
    """Return a container with another first byte; a right checksum stays right, a wrong one wrong."""
    if payload[0] == first:
        return payload
    return _with_check(bytes((first,)) + payload[1:_CHECK], payload[_START:], _writer(payload))


def _with_check(start: bytes, rest: bytes, identity: int) -> bytes:
    """Return `start` and `rest` with the checksum between them."""
    check = zlib.crc32(rest, zlib.crc32(start)) ^ identity
    return start + check.to_bytes(4, "little") + rest


def _writer(payload: bytes) -> int:
    """Return the identity in the checksum of an undamaged container."""
    view = memoryview(payload)
    check = int.from_bytes(view[_CHECK:_START], "little")
    return check ^ zlib.crc32(view[_START:], zlib.crc32(view[:_CHECK]))


def _verify(payload: bytes, identity: int, name: str) -> None:
    """Raise CodecError unless the payload is undamaged and was packed by a codec of this identity."""
    if len(payload) < _START or payload[0] != MAGIC:
        raise CodecError("the payload is damaged, tagged, or not a splitlearn container")
    writer = _writer(payload)
    if writer != identity:
        # The low byte of the identity is also in the header, which distinguishes another codec from damage.
        if writer & 255 == payload[3]:
            raise CodecError(
                f"the payload was written by a foreign codec or quantizer: not by {name} with these tables"
            )
        raise CodecError("the payload is damaged: its checksum is wrong")
    if payload[1] >> 4 != VERSION or payload[3] != identity & 255:
        raise CodecError(f"the payload has version {payload[1] >> 4} of the container, not {VERSION}")


def as_bytes(payload: Payload) -> bytes:
    """Return a payload as bytes; raises as `as_array`."""
    return payload if isinstance(payload, bytes) else as_array(payload).tobytes()


def varint(value: int) -> bytes:
    """Return `value` as a LEB128 varint: groups of 7 bits, low ones first, high bit set on all but the last byte."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes((*groups, value))


def read_varint(payload: bytes, position: int) -> tuple[int, int]:
    """Return the varint at `position` and the next position."""
    value = shift = 0
    while position < len(payload) and value <= MAX_ELEMENTS:
        byte = payload[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128 and (byte > 0 or shift == 7) and value <= MAX_ELEMENTS:
            return value, position
        if byte < 128:
            break
    raise CodecError("the payload is truncated or damaged: a dimension or length is not in its shortest form")
