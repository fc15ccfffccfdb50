"""Compiled loops of rANS decoding.

Lanes take turns, one symbol each. Their symbols are first written side by side to a buffer in the first-level cache,
where one address serves all lanes, and from there to the rows that they belong to. The symbols of the row above still
stand there when the next row is decoded, so that they need no addresses of their own either.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK
from splitlearn.codecs._rans_layout import LOWEST, STATE_BYTES, Layout, third
from splitlearn.jit import njit

LANES = 8  # at most
STRIDE = 64  # steps of all lanes between two looks whether the payload has been passed


class Tables(NamedTuple):
    """Tables for decoding one symbol, made by `Model`.

    Attributes:
        scale: `scale_bits(levels)`.
        offsets: uint32 `(256,)`, or `(4096,)` with an array before as context: where the slots of a context begin, at
            the index 256 · before + 16 · left + upper, of buckets, or of symbols if `buckets` is None.
        slots: from `decoder_tables`.
        ranges: from `decoder_tables`.
        drop: scale − ⌈log₂ levels⌉: what turns the place of a class in `slots` into that in `ranges`.
        buckets: bucket of each symbol when it is a neighbour; None if `offsets` is for symbols.
    """

    scale: np.uint64
    offsets: NDArray[np.uint32]
    slots: NDArray[np.uint8] | NDArray[np.uint32]
    ranges: NDArray[np.uint32] | None
    drop: np.uint64
    buckets: NDArray[np.uint8] | None


class Beside(NamedTuple):
    """What symbols are decoded beside.

    Attributes:
        line: symbols of the row above, which those of the row replace: that of step i and lane k at `lanes` · i + k.
        before: bucket (symbol, if `Tables.buckets` is None) of each symbol of the array before; None if there is none.
        base: what its row adds to the first slot in each lane.
        ahead: rows of each lane before the next one that may begin a plane or have another class.
    """

    line: NDArray[np.uint8]
    before: NDArray[np.uint8] | None
    base: NDArray[np.uint64]
    ahead: NDArray[np.int64]


@njit
def _bucket(buckets: NDArray[np.uint8] | None, symbol: np.uint64) -> np.uint64:
    """Return what a symbol tells as a neighbour: its bucket, or itself without `buckets`."""
    if buckets is None:  # a type in compiled code, so that nothing is looked up
        return symbol
    return np.uint64(buckets[symbol])


@njit
def _look_up(
    slots: NDArray[np.uint8] | NDArray[np.uint32],
    ranges: NDArray[np.uint32] | None,
    drop: np.uint64,
    first: np.uint64,
    slot: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return symbol, frequency and start of a slot of the class whose slots begin at `first`."""
    if ranges is None:
        entry = np.uint64(slots[first | slot])
        return entry & np.uint64(0xFF), entry >> np.uint64(20), entry >> np.uint64(8) & np.uint64(0xFFF)
    symbol = np.uint64(slots[first | slot])
    reach = np.uint64(ranges[(first >> drop) | symbol])
    return symbol, reach & np.uint64(0xFFFF), slot - (reach >> np.uint64(16))


@njit
def _pop(
    state: np.uint64, first: np.uint64, tables: Tables, data: NDArray[np.uint8], position: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return the state without its last symbol, the symbol, and the position after a word may have been taken.

    The slots of the symbol's class begin at `first`.
    """
    slot = state & ((np.uint64(1) << tables.scale) - np.uint64(1))
    symbol, frequency, within = _look_up(tables.slots, tables.ranges, tables.drop, first, slot)
    state = frequency * (state >> tables.scale) + within
    word = np.uint64(data[position]) | np.uint64(data[position + np.uint64(1)]) << np.uint64(8)
    more = state << np.uint64(16) | word
    low = state < np.uint64(LOWEST)
    state = more if low else state  # a choice between two numbers is compiled without a branch
    position = position + np.uint64(2) if low else position
    return state, symbol, position


@njit
def _pop_beside(
    state: np.uint64,
    left: np.uint64,
    place: np.uint64,
    at: np.uint64,
    lane: int,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Decode the symbol at `beside.line[place]`; return the state, its bucket · 16, and the position.

    Args:
        state: of the lane.
        left: bucket · 16 of the symbol to the left.
        place: of the symbol and of its upper neighbour in `beside.line`.
        at: index of the symbol in the array.
        lane: its number.
        beside: its neighbours.
        tables: what is looked up.
        data: the payload and slack.
        position: of the next word.
    """
    up = _bucket(tables.buckets, np.uint64(beside.line[place]))
    first = np.uint64(tables.offsets[third(beside.before, at) | left | up]) + beside.base[lane]
    state, symbol, position = _pop(state, first, tables, data, position)
    beside.line[place] = symbol
    return state, _bucket(tables.buckets, symbol) << np.uint64(4), position


@njit
def _with_slack(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the payload followed by as many zeros as can be read before its end is noticed."""
    data = np.zeros(code.size + 2 * LANES * STRIDE + SLACK, np.uint8)
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
    lowest = True
    for state in states:
        lowest &= state == np.uint64(LOWEST)
    return lowest


@njit
def decode_plain(code: NDArray[np.uint8], start: int, lanes: int, tables: Tables, out: NDArray[np.uint8]) -> bool:
    """Decode the output of `encode_rans` for a single class; return False if damage is detected.

    Args:
        code: the payload.
        start: byte position of the states; the payload must contain all of them.
        lanes: number of lanes.
        tables: what is looked up.
        out: receives the symbols.
    """
    size, data, zero = np.uint64(code.size), _with_slack(code), np.uint64(0)
    states = _read_states(data, start, lanes)
    position = np.uint64(start + STATE_BYTES * lanes)
    part = out.size // lanes
    done = 0
    if lanes == LANES:
        position = _plain_eight(states, part, tables, data, position, size, out)
        done = part
    for i in range(done, part):
        if position > size:
            return False
        for lane in range(lanes):
            states[lane], symbol, position = _pop(states[lane], zero, tables, data, position)
            out[lane * part + i] = symbol
    for i in range(lanes * part, out.size):
        if position > size:
            return False
        states[0], symbol, position = _pop(states[0], zero, tables, data, position)
        out[i] = symbol
    return position == size and _all_lowest(states)


@njit
def _plain_eight(
    states: NDArray[np.uint64],
    part: int,
    tables: Tables,
    data: NDArray[np.uint8],
    position: np.uint64,
    size: np.uint64,
    out: NDArray[np.uint8],
) -> np.uint64:
    """Decode `part` symbols in each of eight lanes, all of one class; return the next position."""
    a, b, c, d, e, f, g, h = states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7]
    zero = np.uint64(0)
    for i in range(part):
        if i % STRIDE == 0 and position > size:
            break
        a, out[np.uint64(i)], position = _pop(a, zero, tables, data, position)
        b, out[np.uint64(part + i)], position = _pop(b, zero, tables, data, position)
        c, out[np.uint64(2 * part + i)], position = _pop(c, zero, tables, data, position)
        d, out[np.uint64(3 * part + i)], position = _pop(d, zero, tables, data, position)
        e, out[np.uint64(4 * part + i)], position = _pop(e, zero, tables, data, position)
        f, out[np.uint64(5 * part + i)], position = _pop(f, zero, tables, data, position)
        g, out[np.uint64(6 * part + i)], position = _pop(g, zero, tables, data, position)
        h, out[np.uint64(7 * part + i)], position = _pop(h, zero, tables, data, position)
    states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7] = a, b, c, d, e, f, g, h
    return position


@njit
def _begin(row: int, lanes: int, layout: Layout, before: NDArray[np.uint8] | None, tables: Tables) -> Beside:
    """Return what the first row of each lane is decoded beside; that of the first lane is number `row`."""
    beside = Beside(
        np.zeros(lanes * layout.width, np.uint8), before, np.zeros(lanes, np.uint64), np.zeros(lanes, np.int64)
    )
    for lane in range(lanes):
        its_row = row + lane * layout.lane_rows
        beside.base[lane] = np.uint64(its_row // layout.class_rows) << tables.scale
        beside.ahead[lane] = -its_row % min(layout.height, layout.class_rows)
    return beside


@njit
def _next_row(row: int, layout: Layout, beside: Beside, tables: Tables) -> None:
    """Set what the next row of each lane is decoded beside; divisions would take a while if each row had some."""
    lanes, line = beside.base.size, beside.line
    for lane in range(lanes):
        if beside.ahead[lane] == 0:
            its_row = row + lane * layout.lane_rows
            beside.ahead[lane] = min(layout.height, layout.class_rows)
            beside.base[lane] = np.uint64(its_row // layout.class_rows) << tables.scale
            for i in range(layout.width if its_row % layout.height == 0 else 0):
                line[lanes * i + lane] = 0
        beside.ahead[lane] -= 1


@njit
def _eight_lanes(
    states: NDArray[np.uint64],
    layout: Layout,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: np.uint64,
    size: np.uint64,
    out: NDArray[np.uint8],
) -> np.uint64:
    """Do as `_steps` for eight lanes, with states in names of their own: an array stays in memory."""
    a, b, c, d, e, f, g, h = states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7]
    line, width = beside.line, layout.width
    part = np.uint64(layout.lane_rows * width)
    for row in range(layout.lane_rows):
        _next_row(row, layout, beside, tables)
        la = lb = lc = ld = le = lf = lg = lh = np.uint64(0)
        from_row = row * width
        for start in range(0, width, STRIDE):
            stop = min(start + STRIDE, width)
            if position > size:
                break
            for i in range(start, stop):
                w, at = np.uint64(LANES * i), np.uint64(from_row + i)
                a, la, position = _pop_beside(a, la, w, at, 0, beside, tables, data, position)
                b, lb, position = _pop_beside(
                    b, lb, w + np.uint64(1), at + np.uint64(1) * part, 1, beside, tables, data, position
                )
                c, lc, position = _pop_beside(
                    c, lc, w + np.uint64(2), at + np.uint64(2) * part, 2, beside, tables, data, position
                )
                d, ld, position = _pop_beside(
                    d, ld, w + np.uint64(3), at + np.uint64(3) * part, 3, beside, tables, data, position
                )
                e, le, position = _pop_beside(
                    e, le, w + np.uint64(4), at + np.uint64(4) * part, 4, beside, tables, data, position
                )
                f, lf, position = _pop_beside(
                    f, lf, w + np.uint64(5), at + np.uint64(5) * part, 5, beside, tables, data, position
                )
                g, lg, position = _pop_beside(
                    g, lg, w + np.uint64(6), at + np.uint64(6) * part, 6, beside, tables, data, position
                )
                h, lh, position = _pop_beside(
                    h, lh, w + np.uint64(7), at + np.uint64(7) * part, 7, beside, tables, data, position
                )
            for lane in range(LANES):
                first = np.uint64(from_row) + np.uint64(lane) * part
                for i in range(start, stop):
                    out[first + np.uint64(i)] = line[np.uint64(LANES * i + lane)]
    states[0], states[1], states[2], states[3], states[4], states[5], states[6], states[7] = a, b, c, d, e, f, g, h
    return position


@njit
def _decode_row(
    states: NDArray[np.uint64],
    row: int,
    width: int,
    layout: Layout,
    beside: Beside,
    tables: Tables,
    data: NDArray[np.uint8],
    position: np.uint64,
    size: np.uint64,
    out: NDArray[np.uint8],
) -> np.uint64:
    """Decode a row of so many symbols in each lane, the first lane's being number `row`; return the next position."""
    lanes, line, from_row = states.size, beside.line, row * layout.width
    left, part = np.zeros(lanes, np.uint64), layout.lane_rows * layout.width
    _next_row(row, layout, beside, tables)
    for i in range(width):
        if position > size:
            break
        for lane in range(lanes):
            place, at = np.uint64(lanes * i + lane), np.uint64(from_row + lane * part + i)
            states[lane], left[lane], position = _pop_beside(
                states[lane], left[lane], place, at, lane, beside, tables, data, position
            )
            out[at] = line[place]
    return position


@njit
def decode_rans(
    code: NDArray[np.uint8],
    start: int,
    layout: Layout,
    tables: Tables,
    before: NDArray[np.uint8] | None,
    out: NDArray[np.uint8],
) -> bool:
    """Decode the output of `encode_rans` for several classes; return False if damage is detected.

    Args:
        code: the payload.
        start: byte position of the states; the payload must contain all of them.
        layout: rows and lanes of the array.
        tables: what is looked up.
        before: as in `Beside`.
        out: receives the symbols.
    """
    lanes, width, lane_rows = layout.lanes, layout.width, layout.lane_rows
    size, data = np.uint64(code.size), _with_slack(code)
    states = _read_states(data, start, lanes)
    position = np.uint64(start + STATE_BYTES * lanes)
    beside = _begin(0, lanes, layout, before, tables)
    if lanes == LANES:
        position = _eight_lanes(states, layout, beside, tables, data, position, size, out)
    else:
        for row in range(lane_rows):
            position = _decode_row(states, row, width, layout, beside, tables, data, position, size, out)
    done = lanes * lane_rows  # what is behind the lanes is the first one's
    beside = _begin(done, 1, layout, before, tables)
    beside.line[:] = out[(done - 1) * width : done * width]
    for row in range(done, (out.size + width - 1) // width):
        its_width = min(width, out.size - row * width)
        position = _decode_row(states[:1], row, its_width, layout, beside, tables, data, position, size, out)
    return position == size and _all_lowest(states)
