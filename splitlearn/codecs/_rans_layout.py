"""How the codecs of range asymmetric numeral systems see an array: rows, lanes, and the classes of symbols.

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

from splitlearn.jit import njit

LOWEST = 1 << 15  # of a state
BUCKETS = 16  # a neighbour tells one of so many
STATE_BYTES = 4


class Layout(NamedTuple):
    """How an array is seen.

    Attributes:
        size: number of symbols.
        width: symbols in a row.
        height: rows in a plane; the first has nothing above.
        lane_rows: rows of one lane.
        lanes: number of lanes.
        class_rows: rows in a row whose classes are counted from the same number on, which grows by one after them.
    """

    size: int
    width: int
    height: int
    lane_rows: int
    lanes: int
    class_rows: int


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
) -> NDArray[np.uint32]:
    """Return class · levels + symbol for each symbol.

    Args:
        symbols: flat symbols.
        layout: how they are seen.
        levels: size of the alphabet.
        buckets: the bucket of each symbol; symbol 0 has bucket 0.
        classes: class of each pair of buckets, left · 16 + above.
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
            indexes[start] = offsets[0] + base + symbols[start]
            for i in range(start + 1, stop):
                at = np.uint64(i)
                left = np.uint64(own[at - np.uint64(1)]) << np.uint64(4)
                indexes[at] = offsets[left] + base + symbols[at]
            continue
        up = np.uint64((row - above_row) * layout.width)
        indexes[start] = offsets[own[np.uint64(start) - up]] + base + symbols[start]
        for i in range(start + 1, stop):
            at = np.uint64(i)
            left = np.uint64(own[at - np.uint64(1)]) << np.uint64(4)
            indexes[at] = offsets[left | np.uint64(own[at - up])] + base + symbols[at]
    return indexes
