"""The loops of range asymmetric numeral systems, several states at a time.

An array is seen as rows. Equal numbers of rows, one behind the other, belong to each lane, a state of its own; what is
left over at the end belongs to the first. Lanes take turns symbol by symbol, so that their chains of arithmetic
overlap. Each symbol is coded with the frequencies of a class, which follows from its row and from the symbols to the
left and above, as far as they lie in the plane and in the lane; others count as symbol 0.

Reference: Duda 2013, "Asymmetric numeral systems"; Giesen 2014, "Interleaved entropy coders".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import padded, signed
from splitlearn.jit import njit

LOWEST = 1 << 15  # of a state
BUCKETS = 16  # a neighbour tells one of so many
STATE_BYTES = 4


class Layout(NamedTuple):
    """How an array is seen.

    Attributes:
        count: number of symbols.
        width: symbols in a row.
        height: rows in a plane; the first has nothing above.
        lane_rows: rows of one lane.
        lanes: number of lanes.
    """

    count: int
    width: int
    height: int
    lane_rows: int
    lanes: int


@njit
def row_above(row: int, layout: Layout) -> int:
    """Return the row that is above `row` for the decoder, or −1."""
    in_lanes = row < layout.lanes * layout.lane_rows
    if row % layout.height == 0 or (in_lanes and row % layout.lane_rows == 0):
        return -1
    return row - 1


@njit
def class_indexes(
    symbols: NDArray[np.uint8],
    layout: Layout,
    levels: int,
    buckets: NDArray[np.uint8],
    classes: NDArray[np.uint16],
    row_classes: NDArray[np.uint16],
) -> NDArray[np.uint32]:
    """Return class · levels + symbol for each symbol.

    Args:
        symbols: flat symbols.
        layout: how they are seen.
        levels: size of the alphabet.
        buckets: the bucket of each symbol; symbol 0 has bucket 0.
        classes: class of each pair of buckets, left · 16 + above.
        row_classes: what is added to the class in each row, whole and partial.
    """
    indexes = np.empty(symbols.size, np.uint32)
    offsets = classes.astype(np.uint32) * np.uint32(levels)
    own = symbols.copy()
    if signed(buckets[-1]) != buckets.size - 1:  # not every symbol has a bucket of its own
        for i in range(symbols.size):
            own[i] = buckets[symbols[i]]
    nothing, keys = np.zeros(layout.width, np.uint8), np.empty(layout.width, np.uint8)
    for row in range(row_classes.size):
        start = row * layout.width
        width = min(layout.width, symbols.size - start)
        above_row = row_above(row, layout)
        above = own[above_row * layout.width : (above_row + 1) * layout.width] if above_row >= 0 else nothing
        here = own[start : start + width]
        keys[0] = above[0]
        for column in range(1, width):
            keys[column] = here[column - 1] << np.uint8(4) | above[column]
        base = np.uint32(row_classes[row]) * np.uint32(levels)
        for column in range(width):
            indexes[start + column] = offsets[keys[column]] + base + symbols[start + column]
    return indexes


@njit
def encode_rans(
    indexes: NDArray[np.uint32], layout: Layout, table: NDArray[np.uint64], scale: int, payload: NDArray[np.uint8]
) -> int:
    """Write states and words so that they end with `payload`, and return where they start.

    Symbols are coded in the opposite order of decoding.
    """
    lanes, position = layout.lanes, payload.size
    states = np.full(lanes, LOWEST, np.uint64)
    part = layout.lane_rows * layout.width
    for i in range(indexes.size - 1, lanes * part - 1, -1):
        states[0], position = _push(states[0], indexes[i], table, scale, payload, position)
    if lanes == 8:
        position = _encode_eight(indexes, part, states, table, scale, payload, position)
        part = 0
    for i in range(part - 1, -1, -1):
        for lane in range(lanes - 1, -1, -1):
            states[lane], position = _push(states[lane], indexes[lane * part + i], table, scale, payload, position)
    for lane in range(lanes - 1, -1, -1):
        position -= STATE_BYTES
        for k in range(STATE_BYTES):
            payload[position + k] = states[lane] >> np.uint64(8 * k) & np.uint64(255)
    return position


@njit
def _encode_eight(
    indexes: NDArray[np.uint32],
    part: int,
    states: NDArray[np.uint64],
    table: NDArray[np.uint64],
    scale: int,
    payload: NDArray[np.uint8],
    position: int,
) -> int:
    """Do as the loop over lanes for eight of them, with states in names of their own: an array stays in memory."""
    a, b, c, d, e, f, g, h = states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7]
    for i in range(part - 1, -1, -1):
        h, position = _push(h, indexes[np.uint64(7 * part + i)], table, scale, payload, position)
        g, position = _push(g, indexes[np.uint64(6 * part + i)], table, scale, payload, position)
        f, position = _push(f, indexes[np.uint64(5 * part + i)], table, scale, payload, position)
        e, position = _push(e, indexes[np.uint64(4 * part + i)], table, scale, payload, position)
        d, position = _push(d, indexes[np.uint64(3 * part + i)], table, scale, payload, position)
        c, position = _push(c, indexes[np.uint64(2 * part + i)], table, scale, payload, position)
        b, position = _push(b, indexes[np.uint64(part + i)], table, scale, payload, position)
        a, position = _push(a, indexes[np.uint64(i)], table, scale, payload, position)
    states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7] = a, b, c, d, e, f, g, h
    return position


@njit
def _push(
    state: np.uint64, index: int, table: NDArray[np.uint64], scale: int, payload: NDArray[np.uint8], position: int
) -> tuple[np.uint64, int]:
    """Return the state that also holds the symbol of `index`, and the position after a word may have left it."""
    at, before = np.uint64(index), np.uint64(position)
    division, reach = table[at, 0], table[at, 1]
    payload[before - np.uint64(2)] = state
    payload[before - np.uint64(1)] = state >> np.uint64(8)
    full = state >= reach >> np.uint64(32)
    less = state >> np.uint64(16)
    state = less if full else state  # a choice between two numbers is compiled without a branch
    position = position - 2 if full else position
    quotient = state * (division >> np.uint64(6)) >> (division & np.uint64(63))
    state += (reach & np.uint64(0xFFFF)) + quotient * (reach >> np.uint64(16) & np.uint64(0xFFFF))
    return state, position


@njit
def _pop(
    state: np.uint64,
    kind: np.uint64,
    levels: np.uint64,
    scale: np.uint64,
    slots: NDArray[np.uint8],
    ranges: NDArray[np.uint32],
    data: NDArray[np.uint8],
    position: int,
) -> tuple[np.uint64, int, np.uint8]:
    """Return the state without its last symbol, the position after a word may have been taken, and the symbol."""
    slot = state & ((np.uint64(1) << scale) - np.uint64(1))
    symbol = slots[kind << scale | slot]
    reach = np.uint64(ranges[kind * levels + np.uint64(symbol)])
    state = (reach & np.uint64(0xFFFF)) * (state >> scale) + slot - (reach >> np.uint64(16))
    at = np.uint64(position)
    more = state << np.uint64(16) | np.uint64(data[at]) | np.uint64(data[at + np.uint64(1)]) << np.uint64(8)
    low = state < np.uint64(LOWEST)
    state = more if low else state
    position = position + 2 if low else position
    return state, position, symbol


@njit
def _decode_eight_plain(
    states: NDArray[np.uint64],
    part: int,
    scale: np.uint64,
    slots: NDArray[np.uint8],
    ranges: NDArray[np.uint32],
    data: NDArray[np.uint8],
    position: int,
    size: int,
    out: NDArray[np.uint8],
) -> int:
    """Decode `part` symbols in each of eight lanes, all of one class; return the next position."""
    a, b, c, d, e, f, g, h = states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7]
    zero = np.uint64(0)
    for i in range(part):
        if position > size:
            break
        a, position, out[np.uint64(i)] = _pop(a, zero, zero, scale, slots, ranges, data, position)
        b, position, out[np.uint64(part + i)] = _pop(b, zero, zero, scale, slots, ranges, data, position)
        c, position, out[np.uint64(2 * part + i)] = _pop(c, zero, zero, scale, slots, ranges, data, position)
        d, position, out[np.uint64(3 * part + i)] = _pop(d, zero, zero, scale, slots, ranges, data, position)
        e, position, out[np.uint64(4 * part + i)] = _pop(e, zero, zero, scale, slots, ranges, data, position)
        f, position, out[np.uint64(5 * part + i)] = _pop(f, zero, zero, scale, slots, ranges, data, position)
        g, position, out[np.uint64(6 * part + i)] = _pop(g, zero, zero, scale, slots, ranges, data, position)
        h, position, out[np.uint64(7 * part + i)] = _pop(h, zero, zero, scale, slots, ranges, data, position)
    states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7] = a, b, c, d, e, f, g, h
    return position


@njit
def decode_rans(
    code: NDArray[np.uint8],
    position: int,
    layout: Layout,
    levels: int,
    scale: int,
    slots: NDArray[np.uint8],
    ranges: NDArray[np.uint32],
    buckets: NDArray[np.uint8],
    classes: NDArray[np.uint16],
    row_classes: NDArray[np.uint16],
    out: NDArray[np.uint8],
) -> bool:
    """Decode what `encode_rans` wrote, from `position` on, and tell whether it is undamaged as far as one can see.

    Args:
        code: the payload.
        position: where the states stand.
        layout: how the array is seen.
        levels: size of the alphabet.
        scale: S.
        slots: symbols of all slots (see `decoder_tables`).
        ranges: ranges of all symbols.
        buckets: the bucket of each symbol.
        classes: class of each pair of buckets.
        row_classes: what is added to the class in each row.
        out: `width` zeros, which stand above the first rows, and room for the symbols behind them.
    """
    lanes, width, lane_rows = layout.lanes, layout.width, layout.lane_rows
    data, size = padded(code), code.size
    states = np.zeros(lanes, np.uint64)
    for lane in range(lanes):
        for k in range(STATE_BYTES):
            states[lane] |= np.uint64(data[min(position, size)]) << np.uint64(8 * k)
            position += 1
    bits, alphabet = np.uint64(scale), np.uint64(levels)
    part = lane_rows * width
    if lanes == 8 and slots.size == 1 << scale:
        position = _decode_eight_plain(states, part, bits, slots, ranges, data, position, size, out[width:])
        lane_rows = 0
    left = np.zeros(lanes, np.uint64)
    above = np.zeros(lanes, np.int64)
    base = np.zeros(lanes, np.uint64)
    for row in range(lane_rows):
        for lane in range(lanes):
            its_row = lane * lane_rows + row
            above[lane] = (row_above(its_row, layout) + 1) * width  # the zeros stand where row −1 would
            base[lane] = row_classes[its_row]
            left[lane] = 0
        for column in range(width):
            if position > size:
                return False
            at = width + row * width + column
            for lane in range(lanes):
                up = np.uint64(buckets[out[np.uint64(above[lane] + column)]])
                kind = base[lane] + np.uint64(classes[left[lane] | up])
                state = states[lane]
                state, position, symbol = _pop(state, kind, alphabet, bits, slots, ranges, data, position)
                states[lane] = state
                out[np.uint64(at + lane * part)] = symbol
                left[lane] = np.uint64(buckets[symbol]) << np.uint64(4)
    for i in range(lanes * part, layout.count):
        if position > size:
            return False
        row, column = i // width, i % width
        up = np.uint64(buckets[out[(row_above(row, layout) + 1) * width + column]])
        before = np.uint64(buckets[out[width + i - 1]]) << np.uint64(4) if column else np.uint64(0)
        kind = np.uint64(row_classes[row]) + np.uint64(classes[before | up])
        states[0], position, symbol = _pop(states[0], kind, alphabet, bits, slots, ranges, data, position)
        out[width + i] = symbol
    for lane in range(lanes):
        if states[lane] != np.uint64(LOWEST):
            return False
    return position == size
