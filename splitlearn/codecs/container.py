"""A self-describing, check-summed container around the bare code of one image.

Layout, little-endian throughout::

    1  magic byte 0xC5                     4  check sum
    1  version << 4 | dimensions           …  dimensions, LEB128 varints
    1  number of floats                    4  each float, IEEE 754 single precision
    1  identity of the codec, low byte     …  bare code
    1  levels − 1

The check sum is the CRC-32 of everything else, exclusive-or the codec's identity and the context. Any change of up to
32 neighbouring bits is found with certainty, others but for one in 2³².

The magic byte has bits to spare: its low three may carry a tag, a number 0…7 that costs no byte and that the check sum
covers (`tagged`, `untagged`). Banks of rates name the rate of a payload there.
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
    as_bytes,
    checked_dimensions,
    checked_levels,
    checked_shape,
)
from splitlearn.numpy_quantizers import checked_integer

MAGIC = 0xC5
TAGS = 8  # numbers that the low three bits of the magic byte can carry
VERSION = 1
MAX_UNPACKED = 1 << 25  # symbols that a receiver takes who names no other bound; R-CNN's layer1 has half as many
_CHECK = 5  # offset of the check sum
_START = 9  # offset of the dimensions


@dataclass(frozen=True)
class Header:
    """What a container says about its content.

    Attributes:
        shape: shape of the symbol array.
        levels: size of the alphabet, 2…256.
        floats: side information of the quantizer.
        body: offset of the bare code in the container.
    """

    shape: tuple[int, ...]
    levels: int
    floats: tuple[float, ...]
    body: int

    def check(self, shape: Sequence[int] | None, max_elements: int) -> None:
        """Raise CodecError unless the array has this shape or, if none is given, at most so many elements."""
        if shape is not None:
            if self.shape != checked_shape(shape):
                raise CodecError(f"the payload holds an array of shape {self.shape}, not of {tuple(shape)}")
        elif math.prod(self.shape) > max_elements:
            raise CodecError(
                f"the payload claims to hold {math.prod(self.shape):,} symbols, and max_elements is {max_elements:,}: "
                "give a larger one if you trust its sender"
            )


def pack(
    symbols: NDArray[np.uint8], levels: int, codec: Codec, floats: Sequence[float] = (), context: int = 0
) -> bytes:
    """Return `symbols` coded by `codec` in a container that `unpack` can check.

    Args:
        symbols: uint8 array of at most 15 dimensions, every value below `levels`.
        levels: size of the alphabet, 2…256.
        codec: the codec; `unpack` needs one of the same class with the same static tables.
        floats: at most 255 numbers that travel along, each rounded to single precision.
        context: 32-bit number for what both sides must share besides the codec, the quantizer's settings say. It goes
            into the check sum and costs nothing.

    Returns:
        9 bytes, 2 for each dimension up to 16,383 (1 up to 127), 4 for each float, then the bare code.

    Raises:
        ValueError: if the symbols don't fit `levels`, there are too many dimensions or floats, or a float passes the
            range of single precision.
    """
    return pack_code(codec.encode(symbols, levels), symbols.shape, levels, codec, floats, context)


def pack_code(
    code: bytes, shape: tuple[int, ...], levels: int, codec: Codec, floats: Sequence[float] = (), context: int = 0
) -> bytes:
    """Return a container around `code`, which `codec` wrote for an array of `shape`; see `pack`."""
    levels, shape, context = checked_levels(levels), checked_dimensions(shape), operator.index(context)
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
    rest = b"".join((*map(varint, shape), values.tobytes(), code))
    return _sealed(start, rest, identity)


def tagged(payload: Payload, tag: int) -> bytes:
    """Return a container that carries a number 0…7 in the low bits of its first byte; it grows by nothing.

    The check sum covers the tag. A tag of 0 leaves a container as it is; with any other, `unpack` takes it only as
    `untagged` gives it back.

    Args:
        payload: bytes written by `pack`.
        tag: the number.

    Raises:
        ValueError: if the number is out of range.
        CodecError: if the payload is no container.
    """
    tag = checked_integer("a tag", tag, 0, TAGS - 1)
    return _with_first_byte(untagged(payload)[1], MAGIC ^ tag)


def untagged(payload: Payload) -> tuple[int, bytes]:
    """Return the tag of a container, and the container without it, which `unpack` reads.

    A damaged payload stays one: its check sum is as wrong as it was, and `unpack` finds it, a damaged tag included.

    Args:
        payload: bytes written by `tagged` or `pack`.

    Raises:
        CodecError: if the payload is no container.
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

    A check sum finds damage, and is no signature: whoever knows the codec can write a payload of a few bytes that
    stands for any number of symbols. So tell the shape where it is known.

    Args:
        payload: bytes written by `pack`.
        codec: a codec of the same class, arguments and static tables as the one that packed.
        context: the number that it was packed with.
        shape: the shape that the array must have; None takes any.
        max_elements: most symbols that are decoded, if no shape is given.

    Returns:
        The symbols, a new array of the packed shape, and the floats that came along.

    Raises:
        CodecError: on any damage, if the payload was packed with another codec, other static tables or another
            context, or holds another shape or more symbols than it may. All of it is checked before anything is
            allocated.
    """
    payload = as_bytes(payload)
    header = read_header(payload, codec, context)
    header.check(shape, max_elements)
    return decode_body(payload, header, codec), header.floats


def decode_body(payload: bytes, header: Header, codec: Codec) -> NDArray[np.uint8]:
    """Return the symbols of a container whose header was read and checked; raise CodecError as `unpack` does."""
    try:
        return codec.decode(memoryview(payload)[header.body :], header.shape, header.levels)
    except CodecError:
        raise
    except ValueError as error:  # a codec refuses arguments that can only come from a forged header
        raise CodecError(f"the header contradicts the codec: {error}") from error


def next_context(payload: bytes, context: int) -> int:
    """Return the context of the container that follows `payload` in a message, given its own.

    It holds the check sum of `payload`, so that containers of several messages cannot be exchanged unnoticed.
    """
    return zlib.crc32(payload[_CHECK:_START], context)


def read_header(payload: Payload, codec: Codec, context: int = 0) -> Header:
    """Return shape, levels and floats of a container without decoding its symbols.

    Args:
        payload: bytes written by `pack`.
        codec: a codec equal to the one that packed.
        context: the number that it was packed with.

    Raises:
        CodecError: on any damage or a foreign codec, as for `unpack`.
    """
    payload, context = as_bytes(payload), operator.index(context)
    _verify(payload, codec.identity ^ context, type(codec).__name__)
    shape = []
    position = _START
    for _ in range(payload[1] & 15):
        size, position = read_varint(payload, position)
        shape.append(size)
    body = position + 4 * payload[2]
    if body > len(payload):
        raise CodecError("the payload is damaged: its header passes its end")
    try:
        checked_shape(shape)
    except ValueError as error:
        raise CodecError(f"the payload is damaged: {error}") from error
    floats = tuple(np.frombuffer(payload, "<f4", payload[2], position).tolist())
    return Header(tuple(shape), payload[4] + 1, floats, body)


def _with_first_byte(payload: bytes, first: int) -> bytes:
    """Return a container with another first byte, whose check sum is as right or as wrong as before."""
    if payload[0] == first:
        return payload
    return _sealed(bytes((first,)) + payload[1:_CHECK], payload[_START:], _writer(payload))


def _sealed(start: bytes, rest: bytes, identity: int) -> bytes:
    """Return `start` and `rest` with the check sum between them."""
    check = zlib.crc32(rest, zlib.crc32(start)) ^ identity
    return start + check.to_bytes(4, "little") + rest


def _writer(payload: bytes) -> int:
    """Return the identity that the check sum of an undamaged container tells."""
    view = memoryview(payload)
    check = int.from_bytes(view[_CHECK:_START], "little")
    return check ^ zlib.crc32(view[_START:], zlib.crc32(view[:_CHECK]))


def _verify(payload: bytes, identity: int, name: str) -> None:
    """Raise CodecError unless the payload is whole and was packed by a codec of this identity."""
    if len(payload) < _START or payload[0] != MAGIC:
        raise CodecError("the payload is damaged, tagged, or not a splitlearn container")
    writer = _writer(payload)
    if writer != identity:
        # An undamaged container of another codec shows that codec's identity, whose low byte the header repeats.
        if writer & 255 == payload[3]:
            raise CodecError(
                f"the payload was written by a foreign codec or quantizer: not by {name} with these tables"
            )
        raise CodecError("the payload is damaged: its check sum is wrong")
    if payload[1] >> 4 != VERSION or payload[3] != identity & 255:
        raise CodecError(f"the payload has version {payload[1] >> 4} of the container, not {VERSION}")


def varint(value: int) -> bytes:
    """Return `value` in groups of 7 bits, low ones first, the high bit set on all but the last byte."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes((*groups, value))


def read_varint(payload: bytes, position: int) -> tuple[int, int]:
    """Return the varint at `position` and the position behind it."""
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
