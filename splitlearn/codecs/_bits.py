"""Reading and writing of bits in byte arrays, most significant bit first, for all kernels.

Kernels read and write 64-bit words at any byte position, so their buffers end with `SLACK` spare bytes. Words are
composed byte by byte: the result is the same on every machine, and LLVM compiles it to one load and one byte swap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit

SLACK = 16


@njit
def padded(payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of `payload` followed by `SLACK` zero bytes, so that `load64` may start at any of its bytes."""
    buffer = np.empty(payload.size + SLACK, np.uint8)
    for i in range(payload.size):
        buffer[i] = payload[i]
    buffer[payload.size :] = 0
    return buffer


@njit
def signed(word: np.integer[Any]) -> int:
    """Return `word` as a signed 64-bit integer, because numba adds signed and unsigned integers as floats."""
    return np.int64(word)  # type: ignore[return-value]


@njit
def load64(buffer: NDArray[np.uint8], position: int) -> np.uint64:
    """Return the 8 bytes that start at `position` as a big-endian word."""
    at = np.uint64(position)
    word = np.uint64(buffer[at]) << np.uint64(56)
    word |= np.uint64(buffer[at + np.uint64(1)]) << np.uint64(48)
    word |= np.uint64(buffer[at + np.uint64(2)]) << np.uint64(40)
    word |= np.uint64(buffer[at + np.uint64(3)]) << np.uint64(32)
    word |= np.uint64(buffer[at + np.uint64(4)]) << np.uint64(24)
    word |= np.uint64(buffer[at + np.uint64(5)]) << np.uint64(16)
    word |= np.uint64(buffer[at + np.uint64(6)]) << np.uint64(8)
    word |= np.uint64(buffer[at + np.uint64(7)])
    return word


@njit
def store64(buffer: NDArray[np.uint8], position: int, word: np.uint64) -> None:
    """Write `word` in big-endian order to the 8 bytes that start at `position`."""
    at = np.uint64(position)
    buffer[at] = word >> np.uint64(56)
    buffer[at + np.uint64(1)] = word >> np.uint64(48)
    buffer[at + np.uint64(2)] = word >> np.uint64(40)
    buffer[at + np.uint64(3)] = word >> np.uint64(32)
    buffer[at + np.uint64(4)] = word >> np.uint64(24)
    buffer[at + np.uint64(5)] = word >> np.uint64(16)
    buffer[at + np.uint64(6)] = word >> np.uint64(8)
    buffer[at + np.uint64(7)] = word


@njit
def store64_little(buffer: NDArray[np.uint8], position: np.uint64, word: np.uint64) -> None:
    """Write `word` in little-endian order to the 8 bytes that start at `position`."""
    at = position
    buffer[at] = word
    buffer[at + np.uint64(1)] = word >> np.uint64(8)
    buffer[at + np.uint64(2)] = word >> np.uint64(16)
    buffer[at + np.uint64(3)] = word >> np.uint64(24)
    buffer[at + np.uint64(4)] = word >> np.uint64(32)
    buffer[at + np.uint64(5)] = word >> np.uint64(40)
    buffer[at + np.uint64(6)] = word >> np.uint64(48)
    buffer[at + np.uint64(7)] = word >> np.uint64(56)


@njit
def peek(buffer: NDArray[np.uint8], bit: int, width: int) -> int:
    """Return the `width` bits (1…57) that start at bit position `bit`."""
    word = load64(buffer, bit >> 3) << np.uint64(bit & 7)
    return signed(word >> np.uint64(64 - width))


@njit
def poke(buffer: NDArray[np.uint8], bit: int, value: int, width: int) -> int:
    """Write `value` as `width` bits (1…57) at bit position `bit` of a zeroed buffer; return the position after it."""
    at = bit >> 3
    store64(buffer, at, load64(buffer, at) | np.uint64(value) << np.uint64(64 - width - (bit & 7)))
    return bit + width


@njit
def tail_is_clean(buffer: NDArray[np.uint8], bit: int) -> bool:
    """Return whether the padding is zero: the bits from bit position `bit` to the end of its byte."""
    return bit & 7 == 0 or (signed(buffer[bit >> 3]) << (bit & 7)) & 255 == 0
