"""Optimal prefix codes: their lengths, their codewords, and the small table that describes them in a payload."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import peek, poke, signed
from splitlearn.jit import njit

LIMIT = 12  # longest codeword: the decoding table has at most 2¹² entries, and four codewords fit in a 64-bit word
FULL = 1 << LIMIT  # the Kraft sum Σ 2⁻ˡ of a complete code, in units of 2⁻ᴸᴵᴹᴵᵀ
TABLE_BITS = 8 * 512  # a table is shorter than this: 256 symbols of at most 13 bits


@njit
def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the codeword lengths of the shortest prefix code for these counts, at most `LIMIT` bits each.

    Args:
        counts: number of occurrences of each symbol.

    Returns:
        Length of each symbol's codeword in bits; 0 for a symbol that does not occur, and for the only one that does.
    """
    lengths = np.zeros(counts.size, np.uint8)
    rising = np.empty(counts.size, np.int64)
    weights = np.empty(counts.size, np.int64)
    used = 0
    for symbol in range(counts.size):  # sorted by insertion: there are few, and sorting by numba takes long to compile
        if counts[symbol] == 0:
            continue
        at = used
        while at > 0 and weights[at - 1] > counts[symbol]:
            weights[at], rising[at] = weights[at - 1], rising[at - 1]
            at -= 1
        weights[at], rising[at] = counts[symbol], symbol
        used += 1
    if used > 1:
        best = package_merge(weights[:used])
        for k in range(used):
            lengths[rising[k]] = best[k]
    return lengths


@njit
def package_merge(weights: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the codeword lengths, at most `LIMIT` bits, with the least weighted sum for two or more symbols.

    Args:
        weights: positive weights of the symbols in ascending order, such as their counts.

    Reference: Larmore & Hirschberg 1990, "A fast algorithm for optimal length-limited Huffman codes".
    """
    n = weights.size
    is_leaf = np.ones((LIMIT, 2 * n), np.bool_)
    items = np.empty(2 * n, np.int64)
    items[:n] = weights
    size = n
    merged = np.empty(2 * n, np.int64)
    for level in range(1, LIMIT):
        leaf = package = 0
        pairs = size // 2
        for k in range(n + pairs):
            pair = items[2 * package] + items[2 * package + 1] if package < pairs else np.int64(0)
            takes_leaf = leaf < n and (package >= pairs or weights[leaf] <= pair)
            is_leaf[level, k] = takes_leaf
            merged[k] = weights[leaf] if takes_leaf else pair
            leaf += takes_leaf
            package += not takes_leaf
        size = n + pairs
        items, merged = merged, items
    lengths = np.zeros(n, np.uint8)
    taken = 2 * n - 2
    for level in range(LIMIT - 1, -1, -1):
        leaves = 0
        for k in range(taken):
            leaves += is_leaf[level, k]
        lengths[:leaves] += np.uint8(1)
        taken = 2 * (taken - leaves)
    return lengths


@njit
def codeword_table(lengths: NDArray[np.uint8], symbols: int) -> NDArray[np.uint64]:
    """Return the canonical Huffman code for these lengths: one entry `codeword << 6 | length` for each symbol.

    Codewords of equal length are consecutive numbers, in the order of their symbols; shorter codewords come first.

    Args:
        lengths: codeword length of each symbol in bits, at most `LIMIT`; 0 for a symbol without a codeword.
        symbols: number of entries to return, at least `lengths.size`; entries without a codeword are 0.
    """
    table = np.zeros(symbols, np.uint64)
    code = 0
    for length in range(1, LIMIT + 1):
        code <<= 1
        for symbol in range(lengths.size):
            if lengths[symbol] == length:
                table[symbol] = code << 6 | length
                code += 1
    return table


@njit
def lookup_table(lengths: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the decoder's table: for every value of the next `lengths.max()` bits, `symbol << 4 | length`.

    This is the symbol whose codeword the bits begin with, and the length of that codeword. `lengths` has the codeword
    length of each symbol, 0 for none. The code must be complete: every value then begins with a codeword.
    """
    longest = signed(lengths.max())
    table = np.empty(1 << longest, np.uint16)
    at = 0
    for length in range(1, longest + 1):
        for symbol in range(lengths.size):
            if lengths[symbol] == length:
                stop = at + (1 << (longest - length))
                table[at:stop] = symbol << 4 | length
                at = stop
    return table


@njit
def write_lengths(lengths: NDArray[np.uint8], table: NDArray[np.uint8]) -> int:
    """Write the codeword lengths of a complete code into the bits of `table`; return the number of bits written.

    The first bit is 0 (`Huffman` writes 1 if the array has only one symbol). Then follows, for each symbol in order,
    its length relative to the previous length (1 at the start):

        0             the same
        10            one bit longer
        110           one bit shorter
        1111 + 4 bits the length itself
        1110 + number this many symbols without a codeword, in Elias gamma code

    The table ends at the symbol that makes the code complete.

    Args:
        lengths: codeword length of each symbol; 0 for none.
        table: zeros, `TABLE_BITS` bits and `SLACK` bytes.
    """
    bit, last, absent = 1, 1, 0
    for symbol in range(lengths.size):
        length = signed(lengths[symbol])
        if length == 0:
            absent += 1
            continue
        if absent:
            digits = 0
            while absent >> (digits + 1):
                digits += 1
            bit = poke(table, bit, 14, 4)
            bit = poke(table, bit, absent, 2 * digits + 1)
            absent = 0
        if length == last:
            bit = poke(table, bit, 0, 1)
        elif length == last + 1:
            bit = poke(table, bit, 2, 2)
        elif length == last - 1:
            bit = poke(table, bit, 6, 3)
        else:
            bit = poke(table, bit, 15 << 4 | length, 8)
        last = length
    return bit


@njit
def read_lengths(payload: NDArray[np.uint8], size: int, lengths: NDArray[np.uint8]) -> int:
    """Read the table that `write_lengths` wrote; return its number of bits, or 0 if no code has such a table.

    Only the output of `write_lengths` is accepted: lengths in their shortest form, one count for consecutive symbols
    without a codeword, and a complete code.

    Args:
        payload: bytes that begin with the table, followed by `SLACK` bytes.
        size: number of bytes that the table may take at most.
        lengths: zeros; receives the codeword length of each symbol.
    """
    bit, last, symbol, kraft = 1, 1, 0, 0
    was_absent = False
    while kraft < FULL and symbol < lengths.size and bit < 8 * size:
        ones = 0
        while ones < 4 and peek(payload, bit + ones, 1):
            ones += 1
        bit += min(ones + 1, 4)
        if ones == 3:  # absent symbols
            digits = 0
            while digits < 8 and not peek(payload, bit + digits, 1):
                digits += 1
            symbol += peek(payload, bit, 2 * digits + 1)
            bit += 2 * digits + 1
            if was_absent or digits == 8:
                return 0
            was_absent = True
            continue
        length = last + ones if ones < 2 else last - 1
        if ones == 4:
            length = peek(payload, bit, 4)
            bit += 4
            if abs(length - last) <= 1:
                return 0
        if not 1 <= length <= LIMIT:
            return 0
        lengths[symbol] = length
        symbol += 1
        last = length
        kraft += FULL >> length
        was_absent = False
    return bit if kraft == FULL and bit <= 8 * size else 0
