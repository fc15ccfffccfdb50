"""Division of an array into rows and lanes, and the classes of its symbols, for the rANS codecs.

An array is divided into rows. Each lane has its own rANS state and codes an equal number of consecutive rows; the first
lane also codes the remaining rows at the end. Lanes take turns, one symbol each, so that a processor can overlap their
computations. Each symbol is coded with the frequency table of its class, which is determined by its row and by its left
and upper neighbours. Neighbours outside the plane or the lane count as symbol 0.

Reference: Duda 2013, "Asymmetric numeral systems"; Giesen 2014, "Interleaved entropy coders".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit

LOWEST = 1 << 15  # of a state
BUCKETS = 16  # a neighbour tells one of so many
STATE_BYTES = 4


class Layout(NamedTuple):
    """Division of an array into rows, planes and lanes.

    Attributes:
        size: number of symbols.
        width: number of symbols in a row.
        height: number of rows in a plane; the first row of a plane has no upper neighbours.
        lane_rows: number of rows in a lane.
        lanes: number of lanes.
        class_rows: number of consecutive rows with the same classes, such as the rows of a channel; 1 is added to the
            class of each symbol after every `class_rows` rows.
    """

    size: int
    width: int
    height: int
    lane_rows: int
    lanes: int
    class_rows: int


@njit
def row_above(row: int, layout: Layout) -> int:
    """Return the number of the row with the upper neighbours of `row`; −1 if it has none in its plane and lane."""
    in_lanes = row < layout.lanes * layout.lane_rows
    if row % layout.height == 0 or (in_lanes and row % layout.lane_rows == 0):
        return -1
    return row - 1


@njit
def third(before: NDArray[np.uint8] | None, at: np.uint64) -> np.uint64:
    """Return what the same place in the array before adds to the index of a context; 0 without such an array."""
    if before is None:  # a type in compiled code, so that nothing is looked up
        return np.uint64(0)
    return np.uint64(before[at]) << np.uint64(8)


@njit
def class_indexes(
    symbols: NDArray[np.uint8],
    layout: Layout,
    levels: int,
    buckets: NDArray[np.uint8],
    classes: NDArray[np.uint16],
    before: NDArray[np.uint8] | None,
) -> NDArray[np.uint32]:
    """Return class · levels + symbol for each symbol: its index in the tables of all classes.

    Args:
        symbols: flat symbols.
        layout: rows and lanes of the array.
        levels: size of the alphabet.
        buckets: bucket of each symbol when it is a neighbour; symbol 0 has bucket 0.
        classes: class of each context, at the index 256 · before + 16 · left + upper of buckets.
        before: bucket of each symbol of the array before; None if there is none.
    """
    indexes = np.empty(symbols.size, np.uint32)
    offsets = classes.astype(np.uint32) * np.uint32(levels)
    own = symbols.copy()
    its_own = True
    for symbol in range(buckets.size):
        its_own &= buckets[symbol] == symbol
    if not its_own:
        for i in range(symbols.size):
            own[i] = buckets[symbols[i]]
    for row in range((symbols.size + layout.width - 1) // layout.width):
        start = row * layout.width
        stop = min(start + layout.width, symbols.size)
        base = np.uint32(row // layout.class_rows) * np.uint32(levels)
        above_row = row_above(row, layout)
        if above_row < 0:
            indexes[start] = offsets[third(before, np.uint64(start))] + base + symbols[start]
            for i in range(start + 1, stop):
                at = np.uint64(i)
                left = np.uint64(own[at - np.uint64(1)]) << np.uint64(4)
                indexes[at] = offsets[third(before, at) | left] + base + symbols[at]
            continue
        up = np.uint64((row - above_row) * layout.width)
        indexes[start] = (
            offsets[third(before, np.uint64(start)) | np.uint64(own[np.uint64(start) - up])] + base + symbols[start]
        )
        for i in range(start + 1, stop):
            at = np.uint64(i)
            left = np.uint64(own[at - np.uint64(1)]) << np.uint64(4)
            indexes[at] = offsets[third(before, at) | left | np.uint64(own[at - up])] + base + symbols[at]
    return indexes
