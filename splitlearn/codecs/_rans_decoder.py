"""Compiled loops of rANS decoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK
from splitlearn.codecs._rans_layout import LOWEST, STATE_BYTES, Layout, row_above, third
from splitlearn.jit import njit

STRIDE = 64  # steps of eight lanes between two looks whether the payload has been passed


class Tables(NamedTuple):
    """Tables for decoding one symbol; the attributes are the arguments of `decode_rans`."""

    levels: np.uint64
    scale: np.uint64
    slots: NDArray[np.uint8]
    ranges: NDArray[np.uint32]
    buckets: NDArray[np.uint8]
    classes: NDArray[np.uint16]


class Beside(NamedTuple):
    """Position of the current row of each lane.

    Attributes:
        above: distance from a symbol back to its upper neighbour, in symbols.
        base: number that the row adds to the class.
        before: bucket of each symbol of the array before, at the symbol's index in `out`; None if there is none.
    """

    above: NDArray[np.int64]
    base: NDArray[np.uint64]
    before: NDArray[np.uint8] | None


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
def _with_slack(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the payload followed by as many zeros as can be read before its end is noticed."""
    data = np.zeros(code.size + 2 * 8 * STRIDE + SLACK, np.uint8)
    for i in range(code.size):
        data[i] = code[i]
    return data


@njit
def _read_states(data: NDArray[np.uint8], position: int, lanes: int) -> NDArray[np.uint64]:
    states = np.zeros(lanes, np.uint64)
    for lane in range(lanes):
        for k in range(STATE_BYTES):
            states[lane] |= np.uint64(data[position + lane * STATE_BYTES + k]) << np.uint64(8 * k)
    return states


@njit
def _all_lowest(states: NDArray[np.uint64]) -> bool:
    """Tell whether all states are what the encoder began with."""
    return bool(np.all(states == np.uint64(LOWEST)))


@njit
def decode_plain(
    code: NDArray[np.uint8],
    position: int,
    lanes: int,
    scale: int,
    slots: NDArray[np.uint8],
    ranges: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> bool:
    """Decode the output of `encode_rans` for a single class; return False if damage is detected.

    Args:
        code: the payload.
        position: byte position of the states; the payload must contain all of them.
        lanes: number of lanes.
        scale: `scale_bits(levels)`.
        slots: from `decoder_tables`.
        ranges: from `decoder_tables`.
        out: receives the symbols.
    """
    size, data, zero, bits = code.size, _with_slack(code), np.uint64(0), np.uint64(scale)
    states = _read_states(data, position, lanes)
    position += STATE_BYTES * lanes
    part = out.size // lanes
    done = 0
    if lanes == 8:
        position = _decode_eight_plain(states, part, bits, slots, ranges, data, position, size, out)
        done = part
    for i in range(done, part):
        if position > size:
            return False
        for lane in range(lanes):
            states[lane], position, symbol = _pop(states[lane], zero, zero, bits, slots, ranges, data, position)
            out[lane * part + i] = symbol
    for i in range(lanes * part, out.size):
        if position > size:
            return False
        states[0], position, symbol = _pop(states[0], zero, zero, bits, slots, ranges, data, position)
        out[i] = symbol
    return position == size and _all_lowest(states)


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
        if i % STRIDE == 0 and position > size:
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
def _pop_beside(
    state: np.uint64,
    left: np.uint64,
    at: int,
    lane: int,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: int,
    out: NDArray[np.uint8],
) -> tuple[np.uint64, np.uint64, int]:
    """Decode the symbol at `out[at]` beside its neighbours; return the state, its bucket · 16, and the position.

    Args:
        state: of the lane.
        left: bucket · 16 of the symbol to the left.
        at: index of the symbol in `out`.
        lane: number of the lane.
        beside: where the row of each lane stands.
        tables: what is looked up.
        data: the payload and slack.
        position: of the next word.
        out: the symbols.
    """
    up = np.uint64(tables.buckets[out[np.uint64(at - beside.above[lane])]])
    kind = beside.base[lane] + np.uint64(tables.classes[third(beside.before, np.uint64(at)) | left | up])
    state, position, symbol = _pop(
        state, kind, tables.levels, tables.scale, tables.slots, tables.ranges, data, position
    )
    out[np.uint64(at)] = symbol
    return state, np.uint64(tables.buckets[symbol]) << np.uint64(4), position


@njit
def _decode_eight_rows(
    states: NDArray[np.uint64],
    at: int,
    width: int,
    part: int,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: int,
    size: int,
    out: NDArray[np.uint8],
) -> int:
    """Decode a row in each of eight lanes, from `out[at]`, `out[at + part]`, … on; return the next position."""
    a, b, c, d, e, f, g, h = states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7]
    la = lb = lc = ld = le = lf = lg = lh = np.uint64(0)
    two, three, four, five, six, seven = 2 * part, 3 * part, 4 * part, 5 * part, 6 * part, 7 * part
    for i in range(at, at + width):
        if (i - at) % STRIDE == 0 and position > size:
            break
        a, la, position = _pop_beside(a, la, i, 0, beside, tables, data, position, out)
        b, lb, position = _pop_beside(b, lb, i + part, 1, beside, tables, data, position, out)
        c, lc, position = _pop_beside(c, lc, i + two, 2, beside, tables, data, position, out)
        d, ld, position = _pop_beside(d, ld, i + three, 3, beside, tables, data, position, out)
        e, le, position = _pop_beside(e, le, i + four, 4, beside, tables, data, position, out)
        f, lf, position = _pop_beside(f, lf, i + five, 5, beside, tables, data, position, out)
        g, lg, position = _pop_beside(g, lg, i + six, 6, beside, tables, data, position, out)
        h, lh, position = _pop_beside(h, lh, i + seven, 7, beside, tables, data, position, out)
    states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7] = a, b, c, d, e, f, g, h
    return position


@njit
def _decode_rest(
    states: NDArray[np.uint64],
    done: int,
    layout: Layout,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: int,
    size: int,
    out: NDArray[np.uint8],
) -> int:
    """Decode the symbols behind the lanes with the first state; return the next position."""
    left, width = np.uint64(0), layout.width
    for i in range(done, layout.size):
        if position > size:
            break
        row = i // width
        if i % width == 0:
            left = np.uint64(0)
        beside.above[0] = (row - row_above(row, layout)) * width
        beside.base[0] = row // layout.class_rows
        states[0], left, position = _pop_beside(states[0], left, width + i, 0, beside, tables, data, position, out)
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
    before: NDArray[np.uint8] | None,
    out: NDArray[np.uint8],
) -> bool:
    """Decode the output of `encode_rans` for several classes; return False if damage is detected.

    Args:
        code: the payload.
        position: byte position of the states; the payload must contain all of them.
        layout: rows and lanes of the array.
        levels: size of the alphabet.
        scale: `scale_bits(levels)`.
        slots: from `decoder_tables`.
        ranges: from `decoder_tables`.
        buckets: bucket of each symbol when it is a neighbour.
        classes: class of each context, at the index 256 · before + 16 · left + upper of buckets.
        before: one row of anything, then the bucket of each symbol of the array before; None if there is none.
        out: one row of zeros, the upper neighbours of first rows; receives the symbols after it.
    """
    lanes, width, lane_rows = layout.lanes, layout.width, layout.lane_rows
    size, data = code.size, _with_slack(code)
    states = _read_states(data, position, lanes)
    position += STATE_BYTES * lanes
    tables = Tables(np.uint64(levels), np.uint64(scale), slots, ranges, buckets, classes)
    beside = Beside(np.zeros(lanes, np.int64), np.zeros(lanes, np.uint64), before)
    left, part = np.zeros(lanes, np.uint64), lane_rows * width
    for row in range(lane_rows):
        at = width + row * width
        for lane in range(lanes):
            its_row = lane * lane_rows + row
            beside.above[lane] = (its_row - row_above(its_row, layout)) * width  # the zeros stand where row −1 would
            beside.base[lane] = its_row // layout.class_rows
            left[lane] = 0
        if lanes == 8:
            position = _decode_eight_rows(states, at, width, part, beside, tables, data, position, size, out)
            continue
        for i in range(at, at + width):
            if position > size:
                return False
            for lane in range(lanes):
                states[lane], left[lane], position = _pop_beside(
                    states[lane], left[lane], i + lane * part, lane, beside, tables, data, position, out
                )
    position = _decode_rest(states, lanes * part, layout, beside, tables, data, position, size, out)
    return position == size and _all_lowest(states)
