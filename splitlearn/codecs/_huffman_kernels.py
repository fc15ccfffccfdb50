"""The loops of the Huffman code: counting, writing codewords, looking them up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import load64, signed, store64, tail_is_clean
from splitlearn.codecs._jit import njit


@njit
def count_symbols(symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each of 256 symbols occurs.

    Four tables in turn: equal neighbours, which are the rule, would otherwise wait for each other's increment.
    """
    counts = np.zeros((4, 256), np.int64)
    whole = symbols.size & ~3
    for i in range(0, whole, 4):
        counts[0, symbols[i]] += 1
        counts[1, symbols[i + 1]] += 1
        counts[2, symbols[i + 2]] += 1
        counts[3, symbols[i + 3]] += 1
    for i in range(whole, symbols.size):
        counts[0, symbols[i]] += 1
    total: NDArray[np.int64] = counts[0] + counts[1] + counts[2] + counts[3]
    return total


@njit
def encode_part(
    symbols: NDArray[np.uint8], start: int, stop: int, codes: NDArray[np.uint32], payload: NDArray[np.uint8], bit: int
) -> int:
    """Write the codewords of `symbols[start:stop]` from `bit` on and return the bit after them.

    Four codewords are joined before they meet the bit buffer, which holds at most 7 + 4 × 12 bits: the chain from one
    step to the next is two instructions for four symbols.
    """
    position = bit >> 3
    held = np.uint64(bit & 7)
    buffer = np.uint64(payload[position]) >> (np.uint64(8) - held)
    four, fifteen = np.uint64(4), np.uint64(15)
    whole = start + ((stop - start) & ~3)
    for i in range(start, whole, 4):
        a = np.uint64(codes[symbols[np.uint64(i)]])
        b = np.uint64(codes[symbols[np.uint64(i + 1)]])
        c = np.uint64(codes[symbols[np.uint64(i + 2)]])
        d = np.uint64(codes[symbols[np.uint64(i + 3)]])
        behind = (c & fifteen) + (d & fifteen)
        pair = ((a >> four) << (b & fifteen)) | (b >> four)
        joined = (pair << behind) | ((c >> four) << (d & fifteen)) | (d >> four)
        length = (a & fifteen) + (b & fifteen) + behind
        buffer = (buffer << length) | joined
        held += length
        store64(payload, position, buffer << (np.uint64(64) - held))
        position += signed(held >> np.uint64(3))
        held &= np.uint64(7)
    for i in range(whole, stop):
        code = np.uint64(codes[symbols[i]])
        buffer = (buffer << (code & fifteen)) | (code >> four)
        held += code & fifteen
        store64(payload, position, buffer << (np.uint64(64) - held))
        position += signed(held >> np.uint64(3))
        held &= np.uint64(7)
    return 8 * position + signed(held)


@njit
def encode_parts(
    symbols: NDArray[np.uint8], codes: NDArray[np.uint32], payload: NDArray[np.uint8], bit: int, size_bytes: int
) -> int:
    """Write one part, or three sizes and then four parts, from `bit` on; return the bytes in all."""
    if size_bytes == 0:
        return (encode_part(symbols, 0, symbols.size, codes, payload, bit) + 7) >> 3
    sizes = (bit + 7) >> 3
    position = sizes + 3 * size_bytes
    quarter = symbols.size // 4
    for part in range(4):
        stop = symbols.size if part == 3 else (part + 1) * quarter
        payload[position] = 0
        end = (encode_part(symbols, part * quarter, stop, codes, payload, 8 * position) + 7) >> 3
        if part < 3:
            for k in range(size_bytes):
                payload[sizes + part * size_bytes + k] = (end - position) >> (8 * k) & 255
        position = end
    return position


@njit
def lookup_shift(table: NDArray[np.uint16]) -> np.uint64:
    """Return how far a 64-bit word moves right to become an index of `table`, whose size is a power of two."""
    shift = 64
    while 1 << (64 - shift) < table.size:
        shift -= 1
    return np.uint64(shift)


@njit
def decode_four(
    payload: NDArray[np.uint8],
    bit: int,
    table: NDArray[np.uint16],
    shift: np.uint64,
    symbols: NDArray[np.uint8],
    at: int,
) -> int:
    """Decode four symbols (at most 48 bits) to `symbols[at:]` from one 64-bit word; return the next bit."""
    word = load64(payload, bit >> 3) << np.uint64(bit & 7)
    used = np.uint64(0)
    for k in range(4):
        entry = np.uint64(table[word >> shift])
        length = entry & np.uint64(15)
        symbols[np.uint64(at + k)] = entry >> np.uint64(4)
        word <<= length
        used += length
    return bit + signed(used)


@njit
def decode_rest(
    payload: NDArray[np.uint8],
    bit: int,
    end: int,
    table: NDArray[np.uint16],
    symbols: NDArray[np.uint8],
    start: int,
    stop: int,
) -> bool:
    """Decode `symbols[start:stop]` and tell whether the part ends rightly in byte `end`."""
    shift = lookup_shift(table)
    while start + 4 <= stop and bit <= 8 * end:
        bit = decode_four(payload, bit, table, shift, symbols, start)
        start += 4
    while start < stop and bit <= 8 * end:
        entry = signed(table[(load64(payload, bit >> 3) << np.uint64(bit & 7)) >> shift])
        symbols[start] = entry >> 4
        bit += entry & 15
        start += 1
    return start == stop and bit <= 8 * end and (bit + 7) >> 3 == end and tail_is_clean(payload, bit)


@njit
def part_edges(payload: NDArray[np.uint8], size: int, bit: int, size_bytes: int) -> NDArray[np.int64]:
    """Return the bytes where the four parts start and the last one ends; past `size` where the sizes are damaged."""
    position = (bit + 7) >> 3
    edges = np.full(5, size, np.int64)
    if not tail_is_clean(payload, bit) or position + 3 * size_bytes > size:
        edges[3] = size + 1
        return edges
    edges[0] = position + 3 * size_bytes
    for part in range(3):
        edges[part + 1] = edges[part]
        for k in range(size_bytes):
            edges[part + 1] += signed(payload[position + part * size_bytes + k]) << (8 * k)
    return edges


@njit
def decode_parts(
    payload: NDArray[np.uint8],
    size: int,
    table: NDArray[np.uint16],
    symbols: NDArray[np.uint8],
    bit: int,
    size_bytes: int,
) -> bool:
    """Decode what `encode_parts` wrote and tell whether it is undamaged as far as one can see."""
    if size_bytes == 0:
        return decode_rest(payload, bit, size, table, symbols, 0, symbols.size)
    edges = part_edges(payload, size, bit, size_bytes)
    if edges[3] > size:
        return False
    quarter = symbols.size // 4
    a, b, c, d = 8 * edges[0], 8 * edges[1], 8 * edges[2], 8 * edges[3]
    shift = lookup_shift(table)
    at = 0
    while at + 4 <= quarter and max(max(a, b), max(c, d)) <= 8 * size:
        a = decode_four(payload, a, table, shift, symbols, at)
        b = decode_four(payload, b, table, shift, symbols, at + quarter)
        c = decode_four(payload, c, table, shift, symbols, at + 2 * quarter)
        d = decode_four(payload, d, table, shift, symbols, at + 3 * quarter)
        at += 4
    return (
        decode_rest(payload, a, edges[1], table, symbols, at, quarter)
        and decode_rest(payload, b, edges[2], table, symbols, at + quarter, 2 * quarter)
        and decode_rest(payload, c, edges[3], table, symbols, at + 2 * quarter, 3 * quarter)
        and decode_rest(payload, d, edges[4], table, symbols, at + 3 * quarter, symbols.size)
    )
