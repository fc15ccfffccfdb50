"""Groups of two or four symbols, joined to one number, so that one table look-up serves all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit

BLOCK = 4096  # symbols that are joined at a time: their groups stay in the first-level cache


@njit
def join_symbols(
    symbols: NDArray[np.uint8], start: int, groups: int, size: int, bits: int, joined: NDArray[np.uint16]
) -> None:
    """Write each group of consecutive symbols to `joined` as one number, with the first symbol in the lowest bits.

    The loops contain only shifts and masks, so that the compiler vectorizes them.

    Args:
        symbols: flat symbols of `bits` bits each.
        start: index of the first symbol to join.
        groups: number of groups.
        size: symbols per group: 1, 2 or 4.
        bits: bits per symbol.
        joined: receives the numbers.
    """
    if size == 1:
        for i in range(groups):
            joined[i] = symbols[np.uint64(start + i)]
    elif size == 2:
        for i in range(groups):
            at = np.uint64(start + 2 * i)
            joined[i] = np.uint16(symbols[at]) | np.uint16(symbols[at + np.uint64(1)]) << np.uint16(bits)
    else:
        one, two = np.uint32(8 - bits), np.uint32(16 - 2 * bits)
        even, low = np.uint32(0x00FF00FF), np.uint32((1 << 4 * bits) - 1)
        for i in range(groups):
            at = np.uint64(start + 4 * i)
            word = np.uint32(symbols[at]) | np.uint32(symbols[at + np.uint64(1)]) << np.uint32(8)
            word |= np.uint32(symbols[at + np.uint64(2)]) << np.uint32(16)
            word |= np.uint32(symbols[at + np.uint64(3)]) << np.uint32(24)
            word = (word & even) | (word & ~even) >> one
            joined[i] = np.uint16((word | word >> two) & low)


@njit
def count_symbols(symbols: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """Return the occurrences of each of the 2ⁿ symbols, given flat symbols of n bits.

    Groups of symbols are counted in four tables in turn. In a single table, equal neighbours, which are common, would
    each wait for the increment before.
    """
    size = 4 if bits <= 2 else 2 if bits <= 5 else 1
    joined = np.empty(BLOCK, np.uint16)
    tables = np.zeros((4, 1 << (size * bits)), np.int32)
    whole = symbols.size - symbols.size % (4 * size)
    for start in range(0, whole, BLOCK):
        groups = min(BLOCK, whole - start) // size
        join_symbols(symbols, start, groups, size, bits, joined)
        for i in range(0, groups, 4):
            at = np.uint64(i)
            tables[0, joined[at]] += np.int32(1)
            tables[1, joined[at + np.uint64(1)]] += np.int32(1)
            tables[2, joined[at + np.uint64(2)]] += np.int32(1)
            tables[3, joined[at + np.uint64(3)]] += np.int32(1)
    counts = np.zeros(1 << bits, np.int64)
    for group in range(tables.shape[1]):
        together = tables[0, group] + tables[1, group] + tables[2, group] + tables[3, group]
        if together:
            for k in range(size):
                counts[group >> (k * bits) & ((1 << bits) - 1)] += together
    for i in range(whole, symbols.size):
        counts[symbols[i]] += 1
    return counts
