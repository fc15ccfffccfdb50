"""Choice of the contexts of `ContextRANS` that share a frequency table.

Neighbouring symbols are grouped into buckets. A context is a combination of the buckets of the left and the upper
neighbour. Contexts that share a table form a class; classes are chosen so that the payload becomes small. Sizes are
integers in units of 2⁻¹⁶ bits, so that every machine makes the same choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import padded, peek, poke, signed
from splitlearn.codecs._rans_layout import BUCKETS
from splitlearn.codecs._rans_tables import bit_length
from splitlearn.jit import njit

MANTISSA = 11
# log₂(1 + k / 2¹¹); sixteen fractional bits leave no room for the libraries of two machines to differ
LOGARITHMS = np.rint(np.log2(1 + np.arange(1 << MANTISSA) / (1 << MANTISSA)) * (1 << 16)).astype(np.int64)


@njit
def logarithm(value: int) -> int:
    """Return log₂ of a positive integer, in units of 2⁻¹⁶."""
    digits = bit_length(value) - 1
    rest = value - (1 << digits)
    place = rest >> (digits - MANTISSA) if digits > MANTISSA else rest << (MANTISSA - digits)
    return (digits << 16) + signed(LOGARITHMS[place])


@njit
def code_cost(counts: NDArray[np.int64], per_symbol: int) -> int:
    """Return the size of the code of some symbols together with their frequency table, in units of 2⁻¹⁶ bits.

    Args:
        counts: number of occurrences of each symbol.
        per_symbol: size of one table entry; every symbol that occurs has one.
    """
    total = cost = 0
    for count in counts:
        if count > 0:
            total += count
            cost += per_symbol - count * logarithm(count)
    return cost + total * logarithm(total) if total > 0 else 0


@njit
def joint_cost(one: NDArray[np.int64], other: NDArray[np.int64], per_symbol: int) -> int:
    """Return the `code_cost` of two classes together."""
    counts = np.empty(one.size, np.int64)
    for symbol in range(one.size):
        counts[symbol] = one[symbol] + other[symbol]
    return code_cost(counts, per_symbol)


@njit
def total_cost(counts: NDArray[np.int64], per_symbol: int) -> int:
    """Return the sum of `code_cost` over classes `(classes, levels)`."""
    total = 0
    for k in range(counts.shape[0]):
        total += code_cost(counts[k], per_symbol)
    return total


@njit
def merge_adjacent(counts: NDArray[np.int64], most: int, per_symbol: int) -> NDArray[np.uint16]:
    """Return the class of each context, where a class is a range of consecutive contexts.

    At first each context is a class. Then adjacent classes are merged, the pair that saves most first, until no merge
    saves anything and at most `most` classes remain.

    Args:
        counts: occurrences of each symbol in each context, `(contexts, levels)`; replaced by those in each class.
        most: largest number of classes.
        per_symbol: size of one table entry, in units of 2⁻¹⁶ bits.
    """
    contexts, levels = counts.shape
    first = np.empty(contexts, np.int64)  # first contexts of the classes, and the rows of their counts
    costs = np.empty(contexts, np.int64)
    joint = np.zeros(contexts, np.int64)  # what class k costs together with the next
    used = contexts
    for k in range(used):
        first[k], costs[k] = k, code_cost(counts[k], per_symbol)
    for k in range(used - 1):
        joint[k] = joint_cost(counts[k], counts[k + 1], per_symbol)
    while used > 1:
        best = 0
        for k in range(1, used - 1):
            if joint[k] - costs[k] - costs[k + 1] < joint[best] - costs[best] - costs[best + 1]:
                best = k
        if used <= most and joint[best] > costs[best] + costs[best + 1]:
            break
        for symbol in range(levels):
            counts[first[best], symbol] += counts[first[best + 1], symbol]
        costs[best] = joint[best]
        for k in range(best + 1, used - 1):
            costs[k], joint[k], first[k] = costs[k + 1], joint[k + 1], first[k + 1]
        used -= 1
        for k in range(max(best - 1, 0), min(best + 1, used - 1)):
            joint[k] = joint_cost(counts[first[k]], counts[first[k + 1]], per_symbol)
    for k in range(1, used):
        for symbol in range(levels):
            counts[k, symbol] = counts[first[k], symbol]
    kinds = np.zeros(contexts, np.uint16)
    for k in range(1, used):
        for context in range(first[k], contexts):
            kinds[context] = k
    return kinds


@njit
def merge_any(counts: NDArray[np.int64], most: int) -> NDArray[np.uint16]:
    """Return the class of each context, where a class may contain any contexts.

    At first each context is a class. Then the pair that costs least is merged, until `most` classes remain. Contexts
    that never occur get class 0.

    Args:
        counts: occurrences of each symbol in each context, `(contexts, levels)`; replaced by those in each class.
        most: largest number of classes.
    """
    contexts = counts.shape[0]
    kinds = np.zeros(contexts, np.uint16)
    alive = np.array([counts[k].sum() > 0 for k in range(contexts)])
    owner = np.arange(contexts)
    costs = np.array([code_cost(counts[k], 0) for k in range(contexts)])
    extra = np.zeros((contexts, contexts), np.int64)
    for j in range(contexts):
        for k in range(j):
            if alive[j] and alive[k]:
                extra[j, k] = code_cost(counts[j] + counts[k], 0) - costs[j] - costs[k]
    left = alive.sum()
    while left > most:
        low, high = -1, -1
        for j in range(contexts):
            for k in range(j):
                if alive[j] and alive[k] and (low < 0 or extra[j, k] < extra[high, low]):
                    low, high = k, j
        counts[low] += counts[high]
        costs[low] = code_cost(counts[low], 0)
        alive[high] = False
        owner[owner == high] = low
        for k in range(contexts):
            if alive[k] and k != low:
                extra[max(low, k), min(low, k)] = code_cost(counts[low] + counts[k], 0) - costs[low] - costs[k]
        left -= 1
    number = 0
    for k in range(contexts):
        if alive[k]:
            counts[number] = counts[k]
            kinds[owner == k] = number
            number += 1
    counts[number:] = 0
    return kinds


@njit
def write_kinds(kinds: NDArray[np.uint16], payload: NDArray[np.uint8], bit: int) -> int:
    """Write the classes from `merge_adjacent`; return the bit position after them.

    Each context but the first takes one bit, which is 1 if a new class begins there. The bits must be zero before.
    """
    for context in range(1, kinds.size):
        bit = poke(payload, bit, signed(kinds[context]) - signed(kinds[context - 1]), 1)
    return bit


@njit
def read_kinds(payload: NDArray[np.uint8], bit: int, contexts: int) -> NDArray[np.uint16]:
    """Return the class of each context as `write_kinds` wrote it; bits after the end of the payload count as 0."""
    kinds = np.zeros(contexts, np.uint16)
    data = padded(payload[: (bit + contexts) // 8 + 1])
    for context in range(1, contexts):
        kinds[context] = signed(kinds[context - 1]) + peek(data, bit + context - 1, 1)
    return kinds


@njit
def count_indexes(indexes: NDArray[np.uint32], contexts: int, levels: int) -> NDArray[np.int64]:
    """Return the occurrences of each symbol in each context, `(contexts, levels)`.

    `indexes` holds context · levels + symbol for each symbol of an array. As in `count_symbols`, these are counted in
    four tables in turn.
    """
    tables = np.zeros((4, contexts * levels), np.int32)
    whole = indexes.size - indexes.size % 4
    for i in range(0, whole, 4):
        at = np.uint64(i)
        tables[0, indexes[at]] += np.int32(1)
        tables[1, indexes[at + np.uint64(1)]] += np.int32(1)
        tables[2, indexes[at + np.uint64(2)]] += np.int32(1)
        tables[3, indexes[at + np.uint64(3)]] += np.int32(1)
    for i in range(whole, indexes.size):
        tables[0, indexes[i]] += np.int32(1)
    counts = np.empty(contexts * levels, np.int64)
    for k in range(counts.size):
        counts[k] = tables[0, k] + tables[1, k] + tables[2, k] + tables[3, k]
    return counts.reshape(contexts, levels)


@njit
def class_of_context(indexes: NDArray[np.uint32], kinds: NDArray[np.uint16], levels: int) -> NDArray[np.uint32]:
    """Return class · levels + symbol for each context · levels + symbol, given the class of each context."""
    names = np.empty(kinds.size * levels, np.uint32)
    for context in range(kinds.size):
        for symbol in range(levels):
            names[context * levels + symbol] = np.uint32(kinds[context]) * np.uint32(levels) + np.uint32(symbol)
    found = np.empty(indexes.size, np.uint32)
    for i in range(indexes.size):
        found[i] = names[indexes[i]]
    return found


def bucket_edges(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the first symbol of each of the buckets 1…15, given the occurrences of each symbol.

    Frequent symbols get narrow buckets: the square roots of the counts add up to about the same in all buckets.
    """
    roots = np.sqrt(counts.astype(np.float64) * (1 << 16)).astype(np.int64)  # the root is exact on every machine
    reached = np.cumsum(roots) * BUCKETS
    edges = np.searchsorted(reached, reached[-1] // BUCKETS * np.arange(1, BUCKETS), side="right")
    first: NDArray[np.uint8] = np.clip(edges, 1, counts.size - 1).astype(np.uint8)
    return first


def buckets_of(edges: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Return the bucket of each symbol, given the `bucket_edges`."""
    buckets: NDArray[np.uint8] = np.searchsorted(edges, np.arange(levels), side="right").astype(np.uint8)
    return buckets
