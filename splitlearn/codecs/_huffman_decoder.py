"""Compiled loops of the Huffman decoder, which decodes several symbols per step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import load64, padded, signed, store64_little, tail_is_clean
from splitlearn.codecs._prefix import TABLE_BITS, lookup_table, read_lengths
from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Plan, undo_plan

WIDEST = 11  # bits of the largest table, which fills half of a first-level cache
MOST = 7  # symbols in one entry of the table, a byte each; the eighth byte is bits × 16 + symbols
STEP = 32  # bytes that a step may write
BLOCK = 1 << 12  # symbols of a part that are decoded before they are dequantized: they stay in the first-level cache
Output = NDArray[np.uint8] | NDArray[np.float32]


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
def _put(symbols: NDArray[np.uint8], plan: Plan | None, spacing: tuple[float, float] | None, out: Output) -> None:
    """Write symbols to `out`, or what they stand for if there is a plan."""
    if plan is None:  # a type in compiled code
        for i in range(out.size):
            out[i] = symbols[i]
    else:
        undo_plan(symbols[: out.size], plan, spacing, out)  # type: ignore[arg-type]  # floats, and a spacing


@njit
def decode_parts(
    code: NDArray[np.uint8],
    single: NDArray[np.uint16],
    table: NDArray[np.uint64],
    bit: int,
    size_bytes: int,
    plan: Plan | None,
    spacing: tuple[float, float] | None,
    out: Output,
) -> bool:
    """Decode the output of `encode_parts`; return False if damage is detected.

    Args:
        code: the payload.
        single: table from `lookup_table`, which decodes one symbol.
        table: table from `several_table`.
        bit: bit position where the code starts, after its table if there is one.
        size_bytes: bytes of each stored part size; 0 if there is a single part.
        plan: of the quantizer; None to decode to symbols.
        spacing: of the quantizer; None to decode to symbols.
        out: receives the symbols, or with a plan what they stand for.
    """
    payload, size = padded(code), code.size
    shifts = np.uint64(index_shift(single.size)), np.uint64(index_shift(table.size))
    parts = 4 if size_bytes else 1
    edges = part_edges(payload, size, bit, size_bytes) if size_bytes else np.full(2, size, np.int64)
    if edges[parts - 1] > size:
        return False
    bits, at, stop = np.empty(parts, np.int64), np.empty(parts, np.int64), np.empty(parts, np.int64)
    for part in range(parts):
        bits[part] = 8 * edges[part] if size_bytes else bit
        at[part] = out.size // parts * part
        stop[part] = out.size // parts * (part + 1) if part + 1 < parts else out.size
    room = np.empty((parts, BLOCK + STEP), np.uint8)
    while parts == 4 and (stop - at).min() >= STEP and bits.max() <= 8 * size:
        most = min(BLOCK, (stop - at).min() - STEP)
        ends = _decode_four(payload, size, single, table, shifts, room, most, bits)
        for part in range(4):
            _put(room[part], plan, spacing, out[at[part] : at[part] + ends[part]])
            at[part] += ends[part]
    for part in range(parts):
        while at[part] + STEP <= stop[part] and bits[part] <= 8 * size:
            most, done = min(BLOCK, stop[part] - at[part] - STEP), 0
            while done <= most and bits[part] <= 8 * size:
                bits[part], done = decode_several(payload, bits[part], single, table, shifts, room[part], done)
            _put(room[part], plan, spacing, out[at[part] : at[part] + done])
            at[part] += done
        rest = stop[part] - at[part]
        if not decode_rest(payload, bits[part], edges[part + 1], single, room[part], 0, rest):
            return False
        _put(room[part], plan, spacing, out[at[part] : stop[part]])
    return True


@njit
def _decode_four(
    payload: NDArray[np.uint8],
    size: int,
    single: NDArray[np.uint16],
    table: NDArray[np.uint64],
    shifts: tuple[np.uint64, np.uint64],
    room: NDArray[np.uint8],
    most: int,
    bits: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Decode four parts in turns until one has more than `most` symbols; return how many each has.

    `bits` are the positions of their next bits. Each part has a row of `room`.
    """
    a, b, c, d = bits[0], bits[1], bits[2], bits[3]
    at, bt, ct, dt = 0, 0, 0, 0
    while max(max(at, bt), max(ct, dt)) <= most and max(max(a, b), max(c, d)) <= 8 * size:
        a, at = decode_several(payload, a, single, table, shifts, room[0], at)
        b, bt = decode_several(payload, b, single, table, shifts, room[1], bt)
        c, ct = decode_several(payload, c, single, table, shifts, room[2], ct)
        d, dt = decode_several(payload, d, single, table, shifts, room[3], dt)
    bits[0], bits[1], bits[2], bits[3] = a, b, c, d
    return at, bt, ct, dt


@njit
def decode_with_table(
    code: NDArray[np.uint8],
    levels: int,
    size_bytes: int,
    plan: Plan | None,
    spacing: tuple[float, float] | None,
    out: Output,
) -> int:
    """Decode the output of `encode_with_table` for two or more different symbols.

    Large arrays are decoded with a larger table, which takes longer to build.

    Args:
        code: the payload.
        levels: size of the alphabet.
        size_bytes: as for `decode_parts`, likewise the other arguments.
        plan: of the quantizer, or None.
        spacing: of the quantizer, or None.
        out: receives the symbols, or with a plan what they stand for.

    Returns:
        0 if no damage is detected, 1 if the table is damaged, 2 if the code is damaged.
    """
    lengths = np.zeros(levels, np.uint8)
    bit = read_lengths(padded(code[: TABLE_BITS // 8]), code.size, lengths)
    if bit == 0:
        return 1
    if out.size > 8 * code.size - bit:
        return 2
    single = lookup_table(lengths)
    width = 6
    while width < WIDEST and out.size >> (width + 6):
        width += 1
    several = several_table(single, width)
    return 0 if decode_parts(code, single, several, bit, size_bytes, plan, spacing, out) else 2
