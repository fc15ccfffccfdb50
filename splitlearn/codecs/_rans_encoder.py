"""Compiled loops of rANS encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._rans_layout import LOWEST, STATE_BYTES
from splitlearn.codecs._rans_tables import STATE_BITS
from splitlearn.jit import njit

Numbers = NDArray[np.uint8] | NDArray[np.uint32]


@njit
def encode_rans(
    indexes: Numbers, lanes: int, part: int, table: NDArray[np.uint64], scale: int, payload: NDArray[np.uint8]
) -> int:
    """Write the code of an array to the end of `payload`; return the byte position where it starts.

    rANS encodes symbols in reverse order, so the code is written backwards from the end.

    Args:
        indexes: class · levels + symbol for each symbol, or the symbols themselves if there is one class.
        lanes: number of lanes.
        part: number of symbols in each lane; the first lane also takes the remaining ones.
        table: `encoder_table` of the frequencies.
        scale: `scale_bits(levels)`.
        payload: receives the code; at least two bytes per symbol and four per lane.
    """
    position = payload.size
    states = np.full(lanes, LOWEST, np.uint64)
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
    indexes: Numbers,
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
    payload[before - np.uint64(2)] = state
    payload[before - np.uint64(1)] = state >> np.uint64(8)
    full = state >= table[at, 1]
    less = state >> np.uint64(16)
    state = less if full else state  # a choice between two numbers is compiled without a branch
    position = position - 2 if full else position
    quotient = state * table[at, 0] >> np.uint64(STATE_BITS + scale)
    return state + table[at, 3] + quotient * table[at, 2], position
