"""Frequency tables of the rANS codecs: computed from counts, written to payloads, and converted to look-up tables.

All arithmetic uses integers, so that encoder and decoder have the same frequencies on any machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import padded, peek, poke, signed, tail_is_clean
from splitlearn.jit import njit

NARROW_SCALE = 12  # S for up to 16 levels
STATE_BITS = 31  # a state lies in 2¹⁵…2³¹−1, and its lower 16 bits are moved to the payload where it would pass the end


@njit
def scale_bits(levels: int) -> int:
    """Return S, where the frequencies of a table add up to 2ˢ: 12 for up to 16 levels, 14 for more."""
    return NARROW_SCALE if levels <= 16 else 14


@njit
def mantissa_bits(count: int) -> int:
    """Return the precision of frequencies in a payload of `count` symbols: stored bits after the leading one."""
    digits = 0
    while count >> digits:
        digits += 1
    return min(10, max(2, digits // 2 - 4))


@njit
def sum_of(numbers: NDArray[np.int64]) -> int:
    """Return the sum of numbers; a call of numpy's in a kernel makes numba import much when it loads the kernel."""
    total = 0
    for number in numbers:
        total += number
    return total


@njit
def place_of_largest(numbers: NDArray[np.int64] | NDArray[np.uint16]) -> int:
    """Return the index of the largest number, the first of equal ones; without numpy as in `sum_of`."""
    place = 0
    for k in range(1, numbers.size):
        if numbers[k] > numbers[place]:
            place = k
    return place


@njit
def normalized(weights: NDArray[np.int64], scale: int) -> NDArray[np.uint16]:
    """Return frequencies that add up to 2^scale, in proportion to `weights`; at least 1 for a positive weight.

    Args:
        weights: weight of each symbol, such as its count; at most 2⁵⁴, not all zero, and at most 2^scale of them.
        scale: `scale_bits(levels)`.
    """
    weights = weights.copy()
    total = sum_of(weights)
    while total >> 46:  # products with 2ˢ must fit in 63 bits
        for symbol in range(weights.size):
            weights[symbol] = (weights[symbol] + 1) >> 1
        total = sum_of(weights)
    frequencies = np.zeros(weights.size, np.int64)
    for symbol in range(weights.size):
        if weights[symbol] > 0:
            frequencies[symbol] = max(1, ((weights[symbol] << scale) + total // 2) // total)
    excess = sum_of(frequencies) - (1 << scale)
    while excess != 0:  # rounding left some too much or too little: the largest bear it, none more than a quarter
        largest = place_of_largest(frequencies)
        change = min(excess, max(1, frequencies[largest] // 4))
        frequencies[largest] -= change
        excess -= change
    return frequencies.astype(np.uint16)


@njit
def rounded(frequencies: NDArray[np.uint16], mantissa: int, scale: int) -> NDArray[np.uint16]:
    """Return the frequencies that a decoder reads if `write_frequencies` stores these with so many mantissa bits."""
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
    """Write one frequency table to `payload`; return the bit position after it.

    For each symbol in order, the number of binary digits of its frequency is written relative to the previous one
    (`scale` at the start), then up to `mantissa` digits after the leading one:

        0             the same number of digits
        10            one digit more
        110           one digit less
        1111 + 4 bits the number of digits itself
        1110 + number this many symbols with frequency 0, in Elias gamma code

    Args:
        frequencies: frequency of each symbol.
        mantissa: `mantissa_bits` of the number of symbols in the array.
        scale: `scale_bits(levels)`.
        payload: receives the table; its bits from `bit` on must be zero.
        bit: bit position where the table starts.
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
    """Read the table that `write_frequencies` wrote; return the bit position after it, or 0 if it is not valid.

    Args:
        payload: `size` bytes, followed by `SLACK` bytes.
        size: number of bytes in which the table must end.
        bit: bit position where the table starts.
        mantissa: largest number of stored digits after the leading one.
        scale: `scale_bits(levels)`.
        frequencies: receives the frequency of each symbol.
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
    """Write one frequency table for each class; return the frequencies as the decoder reads them, and the next bit.

    With several classes, no table gives all of the frequency to one symbol: symbols of such a class would take no bits,
    so a short payload could claim any number of them.

    Args:
        counts: occurrences of each symbol in each class, `(classes, levels)`.
        count: number of symbols of the array.
        payload: receives the tables; its bits from `bit` on must be zero.
        bit: bit position where the tables start.
    """
    classes, levels = counts.shape
    mantissa, scale = mantissa_bits(count), scale_bits(levels)
    frequencies = np.empty((classes, levels), np.uint16)
    for kind in range(classes):
        exact = normalized(counts[kind], scale)
        if classes > 1:
            _leave_room(exact, scale)
        bit = write_frequencies(exact, mantissa, scale, payload, bit)
        read = rounded(exact, mantissa, scale)
        for symbol in range(levels):
            frequencies[kind, symbol] = read[symbol]
    return frequencies, bit


@njit
def _leave_room(frequencies: NDArray[np.uint16], scale: int) -> None:
    """Give a second symbol the frequency 1 if one symbol has all of 2ˢ."""
    symbol = place_of_largest(frequencies)
    if signed(frequencies[symbol]) == 1 << scale:
        frequencies[symbol] -= np.uint16(1)
        frequencies[symbol - 1 if symbol > 0 else 1] = np.uint16(1)


@njit
def read_tables(
    payload: NDArray[np.uint8], bit: int, count: int, classes: int, levels: int
) -> tuple[NDArray[np.uint16], int]:
    """Return the frequencies that `write_tables` wrote, and the next bit position; 0 if the tables are not valid.

    Args:
        payload: the payload, without slack.
        bit: bit position where the tables start.
        count: number of symbols of the array.
        classes: number of tables.
        levels: size of the alphabet.
    """
    data, mantissa, scale = padded(payload), mantissa_bits(count), scale_bits(levels)
    frequencies = np.empty((classes, levels), np.uint16)
    for kind in range(classes):
        bit = read_frequencies(data, payload.size, bit, mantissa, scale, frequencies[kind])
        most = signed(frequencies[kind, place_of_largest(frequencies[kind])])
        if bit == 0 or (classes > 1 and most == 1 << scale):
            return frequencies, 0
    return frequencies, bit if tail_is_clean(data, bit) else 0


@njit
def encoder_table(frequencies: NDArray[np.uint16], scale: int) -> NDArray[np.uint64]:
    """Return the encoder's look-up table, four numbers for each symbol of each class, `(classes · levels, 4)`.

    They are: a factor that replaces the division by the frequency f, ⌈2³¹⁺ˢ / f⌉, since ⌊state · factor / 2³¹⁺ˢ⌋ is the
    exact quotient of every state below f · 2³¹⁻ˢ (Granlund & Montgomery 1994); this bound, from which on a state must
    first move 16 bits to the payload; 2ˢ − f; and the sum of the frequencies of all smaller symbols.
    """
    classes, levels = frequencies.shape
    table = np.zeros((classes * levels, 4), np.uint64)
    for kind in range(classes):
        start = 0
        for symbol in range(levels):
            frequency = signed(frequencies[kind, symbol])
            if frequency == 0:
                continue
            entry = table[kind * levels + symbol]
            entry[0] = ((1 << (STATE_BITS + scale)) + frequency - 1) // frequency
            entry[1] = frequency << (STATE_BITS - scale)
            entry[2] = (1 << scale) - frequency
            entry[3] = start
            start += frequency
    return table


@njit
def narrow_slots(frequencies: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Return the decoder's look-up table for up to 16 levels: all that it needs about a symbol in one number.

    There are 2¹² entries for each class, one for each value of a state's lower 12 bits: `frequency << 20 |
    (value − start) << 8 | symbol`, where `start` is the sum of the frequencies of all smaller symbols.
    """
    classes, levels = frequencies.shape
    slots = np.empty(classes << NARROW_SCALE, np.uint32)
    at = 0
    for kind in range(classes):
        for symbol in range(levels):
            frequency = signed(frequencies[kind, symbol])
            entry = np.uint32(frequency << 20 | symbol)
            its_own = slots[at : at + frequency]
            for within in range(its_own.size):  # by index from 0, which is vectorized
                its_own[within] = entry + (np.uint32(within) << np.uint32(8))
            at += frequency
    return slots


@njit
def wide_slots(frequencies: NDArray[np.uint16], scale: int, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return the decoder's look-up tables for many levels or classes, `slots` and `ranges`.

    `slots` has the symbol for each value of a state's lower S bits, 2ˢ entries for each class. `ranges` has
    `start << 16 | frequency` for each symbol of each class, 2^bits entries for each, where `start` is the sum of the
    frequencies of all smaller symbols.
    """
    classes, levels = frequencies.shape
    slots = np.empty(classes << scale, np.uint8)
    ranges = np.zeros(classes << bits, np.uint32)
    for kind in range(classes):
        start = 0
        for symbol in range(levels):
            frequency = signed(frequencies[kind, symbol])
            if frequency == 0:
                continue
            first = (kind << scale) + start
            slots[first : first + frequency] = symbol
            ranges[kind << bits | symbol] = frequency | start << 16
            start += frequency
    return slots, ranges


@njit
def slot_offsets(
    classes: NDArray[np.uint16], buckets: NDArray[np.uint8], scale: int, of_symbols: bool
) -> NDArray[np.uint32]:
    """Return where the slots of each context begin, at the index 256 · before + 16 · left + upper.

    These are the buckets of neighbours, as in `classes`, or with `of_symbols` the neighbours themselves, up to 16.
    """
    last = buckets.size - 1
    offsets = np.empty(classes.size, np.uint32)
    for place in range(classes.size):
        context = place
        if of_symbols:
            context = 0
            for shift in (8, 4, 0):
                context |= signed(buckets[min(place >> shift & 15, last)]) << shift
        offsets[place] = np.uint32(classes[context]) << np.uint32(scale)
    return offsets
