"""Frequencies of range asymmetric numeral systems: made, written into a payload, and turned into look-up tables.

All arithmetic is of integers, so that every machine decodes with the frequencies that another encoded with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import padded, peek, poke, signed, tail_is_clean
from splitlearn.jit import njit

STATE_BITS = 31  # a state lies in 2¹⁵…2³¹−1, and its lower 16 bits are moved to the payload where it would pass the end


@njit
def scale_bits(levels: int) -> int:
    """Return S: frequencies of one table add up to 2ˢ, 12 bits up to 16 levels, 14 beyond."""
    return 12 if levels <= 16 else 14


@njit
def mantissa_bits(count: int) -> int:
    """Return how exactly a frequency is written for an array of `count` symbols: bits after its leading one."""
    digits = 0
    while count >> digits:
        digits += 1
    return min(10, max(2, digits // 2 - 4))


@njit
def normalized(weights: NDArray[np.int64], scale: int) -> NDArray[np.uint16]:
    """Return frequencies that add up to 2^scale, in proportion to `weights`; at least 1 for a positive weight.

    Args:
        weights: one a symbol, not all zero, at most 2⁵⁴ each.
        scale: S; there are at most 2ˢ symbols.
    """
    total = weights.sum()
    while total >> 46:  # products with 2ˢ must fit in 63 bits
        weights = (weights + 1) >> 1
        total = weights.sum()
    frequencies = np.zeros(weights.size, np.int64)
    for symbol in range(weights.size):
        if weights[symbol] > 0:
            frequencies[symbol] = max(1, ((weights[symbol] << scale) + total // 2) // total)
    excess = frequencies.sum() - (1 << scale)
    while excess != 0:  # rounding left some too much or too little: the largest bear it, none more than a quarter
        largest = np.argmax(frequencies)
        change = min(excess, max(1, frequencies[largest] // 4))
        frequencies[largest] -= change
        excess -= change
    return frequencies.astype(np.uint16)


@njit
def rounded(frequencies: NDArray[np.uint16], mantissa: int, scale: int) -> NDArray[np.uint16]:
    """Return the frequencies that `read_frequencies` gets from what `write_frequencies` writes of these."""
    weights = np.zeros(frequencies.size, np.int64)
    for symbol in range(frequencies.size):
        frequency = signed(frequencies[symbol])
        if frequency > 0:
            dropped = max(0, bit_length(frequency) - 1 - mantissa)
            weights[symbol] = (frequency >> dropped << dropped) | (1 << dropped >> 1)
    return normalized(weights, scale)


@njit
def bit_length(value: int) -> int:
    """Return the number of binary digits of `value`."""
    digits = 0
    while value >> digits:
        digits += 1
    return digits


@njit
def write_frequencies(
    frequencies: NDArray[np.uint16], mantissa: int, scale: int, payload: NDArray[np.uint8], bit: int
) -> int:
    """Write one table into zeroed bits of `payload` from `bit` on and return the bit after it.

    Symbol by symbol, the number of binary digits by its difference to the last one present, at first S: `0` same, `10`
    one more, `110` one less, `1111` and 4 bits any other number; then as many digits behind the leading one as
    `mantissa` says. `1110` and an Elias gamma number count absent symbols.
    """
    last, absent = scale, 0
    for symbol in range(frequencies.size + 1):
        frequency = signed(frequencies[symbol]) if symbol < frequencies.size else 0
        if frequency == 0 and symbol < frequencies.size:
            absent += 1
            continue
        if absent:
            bit = poke(payload, bit, 14, 4)
            bit = poke(payload, bit, absent, 2 * bit_length(absent) - 1)
            absent = 0
        if symbol == frequencies.size:
            break
        digits = bit_length(frequency)
        if digits == last:
            bit = poke(payload, bit, 0, 1)
        elif digits == last + 1:
            bit = poke(payload, bit, 2, 2)
        elif digits == last - 1:
            bit = poke(payload, bit, 6, 3)
        else:
            bit = poke(payload, bit, 15 << 4 | digits, 8)
        last = digits
        kept = min(mantissa, digits - 1)
        if kept:
            bit = poke(payload, bit, frequency >> (digits - 1 - kept) & ((1 << kept) - 1), kept)
    return bit


@njit
def read_frequencies(
    payload: NDArray[np.uint8], size: int, bit: int, mantissa: int, scale: int, frequencies: NDArray[np.uint16]
) -> int:
    """Fill `frequencies` from what `write_frequencies` wrote and return the bit after it; 0 if that is impossible.

    Args:
        payload: `size` bytes and slack.
        size: bytes that a table may not pass.
        bit: where it begins.
        mantissa: digits kept behind the leading one.
        scale: S.
        frequencies: one a symbol; the result.
    """
    weights = np.zeros(frequencies.size, np.int64)
    last, symbol, was_absent, found = scale, 0, False, 0
    while symbol < weights.size:
        if bit >= 8 * size:
            return 0
        ones = 0
        while ones < 4 and peek(payload, bit + ones, 1):
            ones += 1
        bit += min(ones + 1, 4)
        if ones == 3:
            digits = 0
            while digits < 8 and not peek(payload, bit + digits, 1):
                digits += 1
            absent = peek(payload, bit, 2 * digits + 1)
            bit += 2 * digits + 1
            if was_absent or digits == 8 or symbol + absent > weights.size:
                return 0
            was_absent = True
            symbol += absent
            continue
        digits = last + ones if ones < 2 else last - 1
        if ones == 4:
            digits = peek(payload, bit, 4)
            bit += 4
            if abs(digits - last) <= 1:
                return 0
        if not 1 <= digits <= scale + 1:
            return 0
        kept = min(mantissa, digits - 1)
        dropped = digits - 1 - kept
        weight = 1 << kept
        if kept:
            weight |= peek(payload, bit, kept)
            bit += kept
        weights[symbol] = (weight << dropped) | (1 << dropped >> 1)
        last, was_absent = digits, False
        found += 1
        symbol += 1
    if found == 0 or bit > 8 * size:
        return 0
    frequencies[:] = normalized(weights, scale)
    return bit


@njit
def write_tables(
    counts: NDArray[np.int64], count: int, payload: NDArray[np.uint8], bit: int
) -> tuple[NDArray[np.uint16], int]:
    """Write a table for each row of counts into zeroed bits of `payload`; return the frequencies and the bit after.

    One of several classes may not hold a single symbol: its code would cost nothing, and no shape be too large for it.
    """
    classes, levels = counts.shape
    mantissa, scale = mantissa_bits(count), scale_bits(levels)
    frequencies = np.empty((classes, levels), np.uint16)
    for kind in range(classes):
        exact = normalized(counts[kind], scale)
        if classes > 1:
            _leave_room(exact, scale)
        bit = write_frequencies(exact, mantissa, scale, payload, bit)
        frequencies[kind] = rounded(exact, mantissa, scale)
    return frequencies, bit


@njit
def _leave_room(frequencies: NDArray[np.uint16], scale: int) -> None:
    """Give a second symbol the frequency 1 if one symbol has all of 2ˢ."""
    symbol = np.argmax(frequencies)
    if signed(frequencies[symbol]) == 1 << scale:
        frequencies[symbol] -= np.uint16(1)
        frequencies[symbol - 1 if symbol > 0 else 1] = np.uint16(1)


@njit
def read_tables(
    payload: NDArray[np.uint8], bit: int, count: int, classes: int, levels: int
) -> tuple[NDArray[np.uint16], int]:
    """Return the frequencies that `write_tables` wrote and the bit after; 0 for the bit if that is impossible.

    Args:
        payload: the payload, without slack.
        bit: where the tables begin.
        count: number of symbols of the array.
        classes: number of tables.
        levels: size of the alphabet.
    """
    data, mantissa, scale = padded(payload), mantissa_bits(count), scale_bits(levels)
    frequencies = np.empty((classes, levels), np.uint16)
    for kind in range(classes):
        bit = read_frequencies(data, payload.size, bit, mantissa, scale, frequencies[kind])
        if bit == 0 or (classes > 1 and signed(frequencies[kind].max()) == 1 << scale):
            return frequencies, 0
    return frequencies, bit if tail_is_clean(data, bit) else 0


@njit
def encoder_table(frequencies: NDArray[np.uint16], scale: int) -> NDArray[np.uint64]:
    """Return what the encoder looks up for each class and symbol, `(classes · levels, 2)`.

    First how far the product moves right that divides by the frequency and, from bit 6 on, the factor: exact for all
    states (Granlund & Montgomery 1994). Then, 16 bits each, the start of the symbol's range and 2ˢ − frequency, and the
    state from which on the symbol needs room.
    """
    classes, levels = frequencies.shape
    table = np.zeros((classes * levels, 2), np.uint64)
    for kind in range(classes):
        start = 0
        for symbol in range(levels):
            frequency = signed(frequencies[kind, symbol])
            if frequency == 0:
                continue
            shift = STATE_BITS + bit_length(frequency - 1)
            factor = ((1 << shift) + frequency - 1) // frequency
            others = (1 << scale) - frequency
            full = np.uint64(frequency << (STATE_BITS - scale))
            table[kind * levels + symbol, 0] = factor << 6 | shift
            table[kind * levels + symbol, 1] = np.uint64(others << 16 | start) | full << np.uint64(32)
            start += frequency
    return table


@njit
def decoder_tables(frequencies: NDArray[np.uint16], scale: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return the symbol of each of 2ˢ slots of each class, and frequency + start · 2¹⁶ of each class and symbol."""
    classes, levels = frequencies.shape
    slots = np.empty(classes << scale, np.uint8)
    ranges = np.zeros(classes * levels, np.uint32)
    for kind in range(classes):
        start = 0
        for symbol in range(levels):
            frequency = signed(frequencies[kind, symbol])
            if frequency == 0:
                continue
            first = (kind << scale) + start
            slots[first : first + frequency] = symbol
            ranges[kind * levels + symbol] = frequency | start << 16
            start += frequency
    return slots, ranges
