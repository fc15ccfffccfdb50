"""Adaptive model and binary arithmetic coder of the truncated unary codec.

A symbol n is written in unary as n ones and a zero; each of these bits is called a bin. The arithmetic coder keeps an
interval of 64-bit numbers. A bin of 1 narrows it to its lower part, a bin of 0 to its upper part, in proportion to the
bin's probability. When the interval is shorter than 2³², its upper 32 bits are written and the rest is shifted up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK, load64, signed, store64
from splitlearn.jit import njit

FAST, SLOW = 4, 128  # bins that the two estimates look back on; chosen on activations of ResNet-20
LEAST = 32  # least probability of a bin, in 65536ths: the other value costs log₂(65536 / 65504) bits or more
RATES = 65536 // np.arange(2, SLOW + 1)  # share, in 65536ths, of the newest bin in an estimate after 0, 1, … bins
WHOLE = 1 << 32  # probability 1 of an estimate
OK, TRUNCATED, OTHER = range(3)


@njit
def new_model(levels: int) -> NDArray[np.int64]:
    """Return a new model with one row per bin position: fast estimate of P(bin = 1), slow estimate, number of bins."""
    model = np.zeros((levels - 1, 3), np.int64)
    model[:, :2] = WHOLE // 2
    return model


@njit
def chance(model: NDArray[np.int64], position: np.uint64) -> np.uint64:
    """Return the probability that the next bin at `position` is 1, times 65536: the mean of both estimates."""
    mean = (model[position, 0] + model[position, 1]) >> 17
    return np.uint64(min(max(mean, LEAST), 65536 - LEAST))


@njit
def learn(model: NDArray[np.int64], position: np.uint64, is_one: bool) -> None:
    """Update both estimates at `position` with a coded bin; after few bins they are plain averages."""
    target = WHOLE * int(is_one)
    seen = model[position, 2]
    rate = RATES[seen]
    model[position, 0] += ((target - model[position, 0]) * max(rate, 65536 // FAST)) >> 16
    model[position, 1] += ((target - model[position, 1]) * rate) >> 16
    model[position, 2] = min(seen + 1, SLOW - 2)


@njit
def count_bits(symbols: NDArray[np.uint8], levels: int) -> float:
    """Return the ideal code length in bits: the sum of −log₂ of the probability of every bin."""
    model = new_model(levels)
    bits = 0.0
    for symbol in symbols:
        for position in range(min(signed(symbol) + 1, levels - 1)):
            is_one = position < signed(symbol)
            share = signed(chance(model, np.uint64(position)))
            bits -= math.log2((share if is_one else 65536 - share) / 65536)
            learn(model, np.uint64(position), is_one)
    return bits


@njit
def encode_bins(symbols: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Return the code of flat symbols, of which there must be at least one."""
    model = new_model(levels)
    payload = np.empty(symbols.size // 4 + 64, np.uint8)
    low, width = np.uint64(0), ~np.uint64(0)
    at = 0
    for symbol in symbols:
        for position in range(min(signed(symbol) + 1, levels - 1)):
            is_one = position < signed(symbol)
            ones = (width >> np.uint64(16)) * chance(model, np.uint64(position))
            learn(model, np.uint64(position), is_one)
            if is_one:
                width = ones
            else:
                low += ones
                width -= ones
                if low < ones:
                    carry(payload, at)
            if width >> np.uint64(32) == 0:
                if at + SLACK > payload.size:
                    payload = np.concatenate((payload, np.empty_like(payload)))
                store64(payload, at, low)
                low <<= np.uint64(32)
                width <<= np.uint64(32)
                at += 4
    last, size = shortest_end(low, width)
    if last < low:
        carry(payload, at)
    store64(payload, at, last)
    return payload[: at + size]


@njit
def carry(payload: NDArray[np.uint8], end: int) -> None:
    """Add 1 to the big-endian number in `payload[:end]`; by design of the coder it does not overflow."""
    at = end - 1
    while payload[at] == 255:
        payload[at] = 0
        at -= 1
    payload[at] += 1


@njit
def shortest_end(low: np.uint64, width: np.uint64) -> tuple[np.uint64, int]:
    """Return the last bytes of a code: the fewest that stay in the interval whatever bytes follow.

    No code is then a prefix of another, so that truncation and trailing bytes are detected.

    Args:
        low: lower end of the interval.
        width: length of the interval.

    Returns:
        A 64-bit word whose highest bytes are the last bytes, and their number, 1…5. If the word is smaller than `low`,
        it has overflowed, and a carry must be added to the bytes before.
    """
    size = 0
    while True:
        size += 1
        unit = np.uint64(1) << np.uint64(64 - 8 * size)
        last = (low + unit - np.uint64(1)) & ~(unit - np.uint64(1))
        if last - low <= width - unit and unit <= width:
            return last, size


@njit
def decode_bins(payload: NDArray[np.uint8], size: int, levels: int, symbols: NDArray[np.uint8]) -> int:
    """Decode `payload` to `symbols`; return `OK` or the kind of damage.

    The decoder needs only the distance from the lower end of the interval to the payload, not the end itself.

    Args:
        payload: the code, followed by zeros.
        size: length of the code in bytes.
        levels: size of the alphabet.
        symbols: receives the symbols.
    """
    model = new_model(levels)
    above, width = load64(payload, 0), ~np.uint64(0)
    if above >= width:
        return OTHER
    at = 0
    for i in range(symbols.size):
        symbol = 0
        is_one = True
        while is_one and symbol < levels - 1:
            ones = (width >> np.uint64(16)) * chance(model, np.uint64(symbol))
            is_one = bool(above < ones)
            learn(model, np.uint64(symbol), is_one)
            if is_one:
                width = ones
                symbol += 1
            else:
                above -= ones
                width -= ones
            if width >> np.uint64(32) == 0:
                at += 4
                if at >= size:
                    return TRUNCATED
                above = (above << np.uint64(32)) | (load64(payload, at) & np.uint64(0xFFFFFFFF))
                width <<= np.uint64(32)
        symbols[i] = symbol
    low = load64(payload, at) - above
    last, end = shortest_end(low, width)
    return OK if at + end == size and last - low == above else OTHER
