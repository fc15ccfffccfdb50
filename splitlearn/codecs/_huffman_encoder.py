"""Compiled loops of the Huffman encoder, which encodes several symbols per step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import poke, signed, store64
from splitlearn.codecs._groups import BLOCK, count_symbols, join_symbols
from splitlearn.codecs._prefix import code_lengths, codeword_table, write_lengths
from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Plan, apply_plan

LENGTH = 63  # an entry of the encoder's tables is codewords × 64 + their bits


@njit
def group_codes(codes: NDArray[np.uint64], size: int, bits: int) -> NDArray[np.uint64]:
    """Return the concatenated codewords of each possible group of `size` symbols, `codewords << 6 | number of bits`.

    `codes` is from `codeword_table`, for symbols of `bits` bits; groups are numbered as by `join_symbols`.
    """
    table = codes
    for k in range(1, size):
        longer = np.empty(table.size << bits, np.uint64)
        for last in range(1 << bits):
            code = codes[last]
            for group in range(table.size):
                entry = table[group]
                length = (entry & np.uint64(LENGTH)) + (code & np.uint64(LENGTH))
                value = (entry >> np.uint64(6)) << (code & np.uint64(LENGTH)) | code >> np.uint64(6)
                longer[last << (k * bits) | group] = value << np.uint64(6) | length
        table = longer
    return table


@njit
def encode_part(
    symbols: NDArray[np.uint8],
    start: int,
    stop: int,
    codes: NDArray[np.uint64],
    table: NDArray[np.uint64],
    size: int,
    bits: int,
    payload: NDArray[np.uint8],
    bit: int,
) -> int:
    """Write the codewords of `symbols[start:stop]` to `payload` at bit position `bit`; return the position after them.

    `codes` is from `codeword_table`, and `table` from `group_codes`, for groups of `size` symbols of `bits` bits. A
    step appends the codewords of two groups to a 64-bit buffer and stores it. A group has at most 28 bits (four
    codewords of up to 7 bits, or two of up to 12), so the buffer holds at most 7 + 2 × 28 bits.
    """
    position = bit >> 3
    held = np.uint64(bit & 7)
    buffer = np.uint64(payload[position]) >> (np.uint64(8) - held)
    six, length = np.uint64(6), np.uint64(LENGTH)
    joined = np.empty(BLOCK, np.uint16)
    whole = stop - (stop - start) % (2 * size)
    for at in range(start, whole, BLOCK):
        groups = min(BLOCK, whole - at) // size
        join_symbols(symbols, at, groups, size, bits, joined)
        for i in range(0, groups, 2):
            first, second = table[joined[np.uint64(i)]], table[joined[np.uint64(i + 1)]]
            buffer = (buffer << (first & length)) | first >> six
            buffer = (buffer << (second & length)) | second >> six
            held = (held + first + second) & length
            store64(payload, position, buffer << (np.uint64(63) - held) << np.uint64(1))
            position += signed(held >> np.uint64(3))
            held &= np.uint64(7)
    for i in range(whole, stop):
        code = codes[symbols[i]]
        buffer = (buffer << (code & length)) | code >> six
        held += code & length
        store64(payload, position, buffer << (np.uint64(63) - held) << np.uint64(1))
        position += signed(held >> np.uint64(3))
        held &= np.uint64(7)
    return 8 * position + signed(held)


@njit
def encode_parts(
    symbols: NDArray[np.uint8],
    codes: NDArray[np.uint64],
    table: NDArray[np.uint64],
    size: int,
    bits: int,
    payload: NDArray[np.uint8],
    bit: int,
    size_bytes: int,
) -> int:
    """Write the codewords of all symbols to `payload` at bit position `bit`; return the length of `payload` in bytes.

    If `size_bytes` is 0, they are written as one part. Otherwise they are divided into four parts, and the sizes of the
    first three are written before them, in `size_bytes` bytes each. Other arguments are those of `encode_part`.
    """
    if size_bytes == 0:
        return (encode_part(symbols, 0, symbols.size, codes, table, size, bits, payload, bit) + 7) >> 3
    sizes = (bit + 7) >> 3
    position = sizes + 3 * size_bytes
    quarter = symbols.size // 4
    for part in range(4):
        start, stop = part * quarter, symbols.size if part == 3 else (part + 1) * quarter
        payload[position] = 0
        end = (encode_part(symbols, start, stop, codes, table, size, bits, payload, 8 * position) + 7) >> 3
        if part < 3:
            for k in range(size_bytes):
                payload[sizes + part * size_bytes + k] = (end - position) >> (8 * k) & 255
        position = end
    return position


@njit
def encode_latent_parts(
    latent: NDArray[np.float32],
    plan: Plan,
    codes: NDArray[np.uint64],
    table: NDArray[np.uint64],
    size: int,
    bits: int,
    payload: NDArray[np.uint8],
    size_bytes: int,
) -> tuple[int, tuple[float, float]]:
    """Quantize a flat latent and encode it as `encode_parts`; return the length in bytes and the latent's extremes."""
    symbols = np.empty(latent.size, np.uint8)
    ends = apply_plan(latent, plan, symbols)
    return encode_parts(symbols, codes, table, size, bits, payload, 0, size_bytes), ends


@njit
def encode_with_table(
    symbols: NDArray[np.uint8], size: int, bits: int, payload: NDArray[np.uint8], size_bytes: int
) -> int:
    """Fit a Huffman code to the symbols, write its table and the code to `payload`; return the length in bytes.

    If all symbols are equal, that symbol is written instead. The first `TABLE_BITS` bits of `payload` must be zero;
    other arguments are those of `encode_parts`. All is done in one call, because for a small image, a few calls from
    Python would take longer than the work.
    """
    lengths = code_lengths(count_symbols(symbols, bits))
    if not lengths.any():
        return (poke(payload, 0, 1 << bits | signed(symbols[0]), 1 + bits) + 7) >> 3
    bit = write_lengths(lengths, payload)
    codes = codeword_table(lengths, 1 << bits)
    return encode_parts(symbols, codes, group_codes(codes, size, bits), size, bits, payload, bit, size_bytes)


@njit
def encode_latent_with_table(
    latent: NDArray[np.float32],
    plan: Plan,
    size: int,
    bits: int,
    payload: NDArray[np.uint8],
    size_bytes: int,
) -> tuple[int, tuple[float, float]]:
    """Quantize a flat latent and encode it as `encode_with_table`; return the length in bytes and the extremes."""
    symbols = np.empty(latent.size, np.uint8)
    ends = apply_plan(latent, plan, symbols)
    return encode_with_table(symbols, size, bits, payload, size_bytes), ends
