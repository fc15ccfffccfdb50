"""Compiled loops of the Huffman codec, which encode and decode several symbols per step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import load64, padded, poke, signed, store64, store64_little, tail_is_clean
from splitlearn.codecs._groups import BLOCK, count_symbols, join_symbols
from splitlearn.codecs._prefix import (
    TABLE_BITS,
    code_lengths,
    codeword_table,
    lookup_table,
    read_lengths,
    write_lengths,
)
from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Plan, apply_plan, undo_plan

WIDEST = 11  # bits of the decoder's largest table, which fills half of a first-level cache
LENGTH = 63  # an entry of the encoder's tables is codewords × 64 + their bits
MOST = 7  # symbols in one entry of the decoder's table, a byte each; the eighth byte is bits × 16 + symbols


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


@njit
def several_table(single: NDArray[np.uint16], width: int) -> NDArray[np.uint64]:
    """Return a table that decodes several symbols at once: an entry for every value of the next `width` bits.

    An entry holds the symbols, up to `MOST`, whose codewords lie completely within these bits (one byte each, the first
    symbol lowest), and in its highest byte the bits that they use × 16 + their number. It is 0 if the first codeword is
    longer than `width` bits.

    The bits after the first codeword are an index of a table with a smaller width. Tables are therefore built for
    widths 0, 1, … in one array, where the table of width k starts at 2ᵏ; the last one is the result. `single` is the
    table from `lookup_table`, which decodes one symbol.
    """
    longest = 0
    while 1 << longest < single.size:
        longest += 1
    tables = np.zeros(2 << width, np.uint64)
    full, eight = np.uint64(MOST), np.uint64(8)
    for known in range(1, width + 1):
        for value in range(1 << known):
            entry = signed(single[value << longest >> known])  # right if the codeword lies within the known bits
            length = entry & 15
            if length > known:
                continue
            behind = known - length
            rest = tables[1 << behind | (value & ((1 << behind) - 1))]
            while rest >> np.uint64(56) & np.uint64(15) == full:  # no room for its last symbol: look at fewer bits
                behind -= 1
                rest = tables[1 << behind | (value >> (known - length - behind) & ((1 << behind) - 1))]
            about = (rest >> np.uint64(56)) + np.uint64(length << 4 | 1)
            symbols = (rest & np.uint64((1 << 56) - 1)) << eight | np.uint64(entry >> 4)
            tables[1 << known | value] = about << np.uint64(56) | symbols & np.uint64((1 << 56) - 1)
    return tables[1 << width :]


@njit
def index_shift(entries: int) -> int:
    """Return the right shift that turns a 64-bit word into an index of a table, by its highest bits.

    `entries` is the size of the table, a power of two.
    """
    shift = 64
    while 1 << (64 - shift) < entries:
        shift -= 1
    return shift


@njit
def decode_several(
    payload: NDArray[np.uint8],
    bit: int,
    single: NDArray[np.uint16],
    table: NDArray[np.uint64],
    shifts: tuple[np.uint64, np.uint64],
    symbols: NDArray[np.uint8],
    at: int,
) -> tuple[int, int]:
    """Decode 4 to 28 symbols by four look-ups in one 64-bit word; return the next bit position and symbol index.

    Decoding starts at bit position `bit` and symbol index `at`. `table` is from `several_table`; `single`, from
    `lookup_table`, decodes rare codewords that are longer than an index of `table`. `shifts` has the `index_shift` of
    `single` and of `table`.
    """
    word = load64(payload, bit >> 3) << np.uint64(bit & 7)
    position, used, sixty, four, count = np.uint64(at), np.uint64(0), np.uint64(60), np.uint64(56), np.uint64(15)
    for _ in range(4):
        entry = table[word >> shifts[1]]
        if entry == 0:
            rare = np.uint64(single[word >> shifts[0]])
            entry = ((rare & count) << sixty) | (np.uint64(1) << four) | rare >> np.uint64(4)
        store64_little(symbols, position, entry)
        word <<= entry >> sixty
        used += entry >> sixty
        position += entry >> four & count
    return bit + signed(used), signed(position)


@njit
def decode_rest(
    payload: NDArray[np.uint8],
    bit: int,
    end: int,
    single: NDArray[np.uint16],
    symbols: NDArray[np.uint8],
    start: int,
    stop: int,
) -> bool:
    """Decode the last symbols of a part, `symbols[start:stop]`, one by one, starting at bit position `bit`.

    Return whether the part ends exactly before byte position `end`, padded with zeros. `single` is from `lookup_table`.
    """
    shift = np.uint64(index_shift(single.size))
    while start < stop and bit <= 8 * end:
        entry = signed(single[(load64(payload, bit >> 3) << np.uint64(bit & 7)) >> shift])
        symbols[start] = entry >> 4
        bit += entry & 15
        start += 1
    return start == stop and bit <= 8 * end and (bit + 7) >> 3 == end and tail_is_clean(payload, bit)


@njit
def part_edges(payload: NDArray[np.uint8], size: int, bit: int, size_bytes: int) -> NDArray[np.int64]:
    """Return the five byte positions where the four parts start and the last one ends.

    The sizes of the first three parts are read from `payload`, `size_bytes` bytes each, from the first whole byte after
    bit position `bit`. If they are damaged, the fourth position may exceed `size`, the length of the code: the caller
    must check it.
    """
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
    code: NDArray[np.uint8],
    single: NDArray[np.uint16],
    table: NDArray[np.uint64],
    symbols: NDArray[np.uint8],
    count: int,
    bit: int,
    size_bytes: int,
) -> bool:
    """Decode the output of `encode_parts`; return False if damage is detected.

    A step of the fast loops may write up to 32 bytes, so these loops stop 32 symbols before the end of a part.

    Args:
        code: the payload.
        single: table from `lookup_table`, which decodes one symbol.
        table: table from `several_table`.
        symbols: receives the symbols.
        count: number of symbols.
        bit: bit position where the code starts, after its table if there is one.
        size_bytes: bytes of each stored part size; 0 if there is a single part.
    """
    payload, size = padded(code), code.size
    shifts = np.uint64(index_shift(single.size)), np.uint64(index_shift(table.size))
    if size_bytes == 0:
        at = 0
        while at + 32 <= count and bit <= 8 * size:
            bit, at = decode_several(payload, bit, single, table, shifts, symbols, at)
        return decode_rest(payload, bit, size, single, symbols, at, count)
    edges = part_edges(payload, size, bit, size_bytes)
    if edges[3] > size:
        return False
    quarter = count // 4
    a, b, c, d = 8 * edges[0], 8 * edges[1], 8 * edges[2], 8 * edges[3]
    at, bt, ct, dt = 0, quarter, 2 * quarter, 3 * quarter
    while at + 32 <= quarter and bt + 32 <= 2 * quarter and ct + 32 <= 3 * quarter and dt + 32 <= count:
        if max(max(a, b), max(c, d)) > 8 * size:
            break
        a, at = decode_several(payload, a, single, table, shifts, symbols, at)
        b, bt = decode_several(payload, b, single, table, shifts, symbols, bt)
        c, ct = decode_several(payload, c, single, table, shifts, symbols, ct)
        d, dt = decode_several(payload, d, single, table, shifts, symbols, dt)
    while at + 32 <= quarter and a <= 8 * size:
        a, at = decode_several(payload, a, single, table, shifts, symbols, at)
    while bt + 32 <= 2 * quarter and b <= 8 * size:
        b, bt = decode_several(payload, b, single, table, shifts, symbols, bt)
    while ct + 32 <= 3 * quarter and c <= 8 * size:
        c, ct = decode_several(payload, c, single, table, shifts, symbols, ct)
    while dt + 32 <= count and d <= 8 * size:
        d, dt = decode_several(payload, d, single, table, shifts, symbols, dt)
    return (
        decode_rest(payload, a, edges[1], single, symbols, at, quarter)
        and decode_rest(payload, b, edges[2], single, symbols, bt, 2 * quarter)
        and decode_rest(payload, c, edges[3], single, symbols, ct, 3 * quarter)
        and decode_rest(payload, d, edges[4], single, symbols, dt, count)
    )


@njit
def decode_with_table(
    code: NDArray[np.uint8], levels: int, symbols: NDArray[np.uint8], count: int, size_bytes: int
) -> int:
    """Decode the output of `encode_with_table` for two or more different symbols.

    Large arrays are decoded with a larger table, which takes longer to build.

    Args:
        code: the payload.
        levels: size of the alphabet.
        symbols: receives the symbols.
        count: number of symbols.
        size_bytes: as for `decode_parts`.

    Returns:
        0 if no damage is detected, 1 if the table is damaged, 2 if the code is damaged.
    """
    lengths = np.zeros(levels, np.uint8)
    bit = read_lengths(padded(code[: TABLE_BITS // 8]), code.size, lengths)
    if bit == 0:
        return 1
    if count > 8 * code.size - bit:
        return 2
    single = lookup_table(lengths)
    width = 6
    while width < WIDEST and count >> (width + 6):
        width += 1
    several = several_table(single, width)
    return 0 if decode_parts(code, single, several, symbols, count, bit, size_bytes) else 2


@njit
def decode_latent_parts(
    code: NDArray[np.uint8],
    single: NDArray[np.uint16],
    table: NDArray[np.uint64],
    size_bytes: int,
    plan: Plan,
    spacing: tuple[float, float],
    latent: NDArray[np.float32],
) -> bool:
    """Decode as `decode_parts`, and write the dequantized values to `latent`; return False if damage is detected."""
    symbols = np.empty(latent.size + 8, np.uint8)
    undamaged = decode_parts(code, single, table, symbols, latent.size, 0, size_bytes)
    if undamaged:
        undo_plan(symbols[: latent.size], plan, spacing, latent)
    return undamaged
