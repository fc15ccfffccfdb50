"""Tables of `ContextRANS` in its payloads: chosen for one array, written, and read again.

A class is a range of the sum of left and upper bucket; with a reference, of these sums beside one of its buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK
from splitlearn.codecs._contexts import (
    bucket_edges,
    buckets_of,
    class_of_context,
    count_indexes,
    merge_adjacent,
    read_kinds,
    total_cost,
    write_kinds,
)
from splitlearn.codecs._groups import count_symbols
from splitlearn.codecs._rans import DAMAGED, Model, plane_layout
from splitlearn.codecs._rans_layout import BUCKETS, Layout, class_indexes
from splitlearn.codecs._rans_tables import mantissa_bits, read_tables, write_tables
from splitlearn.codecs.base import CodecError, symbol_bits
from splitlearn.codecs.rans import MOST_TABLE_BITS, is_constant

OWN_CLASSES = 16  # largest number of classes with tables in a payload
OWN_CLASSES_BESIDE = 32  # the same with a reference, of which each bucket tells something else
PLACES = np.arange(BUCKETS**2).astype(np.uint16)
SUMS = (PLACES // BUCKETS + PLACES % BUCKETS).astype(np.uint16)  # left bucket + upper bucket


@dataclass(frozen=True, eq=False)
class Contexts:
    """Contexts of payloads with tables of their own, in the order in which neighbours may share a table.

    Attributes:
        number: of different contexts.
        most: largest number of classes.
        numbers: number of the context of a symbol, by the buckets of its neighbours, as in `Model.classes`.
    """

    number: int
    most: int
    numbers: NDArray[np.uint16]

    @classmethod
    @cache
    def of(cls, levels: int, beside: bool) -> Self:
        """Return the contexts of so many levels, with or without a reference."""
        used = min(levels, BUCKETS)
        sums = 2 * used - 1
        if not beside:
            return cls(sums, OWN_CLASSES, SUMS)
        before = np.minimum(np.arange(BUCKETS), used - 1)[:, None]
        rising = np.minimum(SUMS, sums - 1)[None]
        # To and fro, so that the last context of a bucket stands beside the first of the next.
        numbers = before * sums + np.where(before % 2, sums - 1 - rising, rising)
        return cls(used * sums, OWN_CLASSES_BESIDE, numbers.reshape(-1).astype(np.uint16))

    def model(self, frequencies: NDArray[np.uint16], buckets: NDArray[np.uint8], kinds: NDArray[np.uint16]) -> Model:
        """Return the model with the classes `kinds` of contexts."""
        return Model(frequencies, buckets, kinds[np.minimum(self.numbers, kinds.size - 1)])


@dataclass(frozen=True, eq=False)
class OwnTables:
    """Tables of one payload.

    Attributes:
        contexts: what the classes are made of.
        buckets: bucket of each symbol when it is a neighbour.
        edges: the same as it is written.
        kinds: class of each context.
        counts: occurrences of each symbol in each class.
        indexes: context · levels + symbol of each symbol.
        saves: whether contexts with a reference make a smaller payload than those without.
    """

    contexts: Contexts
    buckets: NDArray[np.uint8]
    edges: bytes
    kinds: NDArray[np.uint16]
    counts: NDArray[np.int64]
    indexes: NDArray[np.uint32]
    saves: bool

    @classmethod
    def of(cls, symbols: NDArray[np.uint8], layout: Layout, levels: int, reference: NDArray[np.uint8] | None) -> Self:
        """Return the tables that make the payload of flat symbols smallest."""
        contexts = Contexts.of(levels, reference is not None)
        buckets, edges = np.arange(levels).astype(np.uint8), b""
        if levels > BUCKETS:
            found = bucket_edges(count_symbols(symbols, symbol_bits(levels))[:levels])
            buckets, edges = buckets_of(found, levels), found.tobytes()
        before = reference if reference is None or levels <= BUCKETS else buckets[reference]
        indexes = class_indexes(symbols, layout, levels, buckets, contexts.numbers, before)
        counts = count_indexes(indexes, contexts.number, levels)
        entry = (mantissa_bits(symbols.size) + 3) << 16
        alone = None if reference is None else _without_reference(counts, 2 * min(levels, BUCKETS) - 1)
        size, kinds, counts = _merged(counts, contexts.most, entry)
        saves = alone is None or size < _merged(alone, OWN_CLASSES, entry)[0]
        return cls(contexts, buckets, edges, kinds, counts, indexes, saves)

    def encode(self, layout: Layout) -> bytes:
        """Return the tables and the code of the symbols."""
        levels, size = self.counts.shape[1], self.indexes.size
        room = self.contexts.number // 8 + self.counts.size * MOST_TABLE_BITS // 8
        start = np.zeros(64 + room + SLACK, np.uint8)
        start[: len(self.edges)] = np.frombuffer(self.edges, np.uint8)
        bit = write_kinds(self.kinds, start, 8 * len(self.edges))
        frequencies, bit = write_tables(self.counts, size, start, bit)
        written = start[: (bit + 7) // 8].tobytes()
        if is_constant(frequencies):
            return written
        indexes = class_of_context(self.indexes, self.kinds, levels)
        return self.contexts.model(frequencies, self.buckets, self.kinds).encode_indexes(indexes, layout, written)


def _without_reference(counts: NDArray[np.int64], sums: int) -> NDArray[np.int64]:
    """Return the occurrences in contexts without reference, from those in contexts with one."""
    rows = counts.reshape(-1, sums, counts.shape[1]).copy()
    rows[1::2] = rows[1::2, ::-1]  # see `Contexts.of`
    together: NDArray[np.int64] = rows.sum(axis=0)
    return together


def _merged(counts: NDArray[np.int64], most: int, entry: int) -> tuple[int, NDArray[np.uint16], NDArray[np.int64]]:
    """Return the size of tables and code in units of 2⁻¹⁶ bits, the class of each context, and the classes' counts."""
    contexts = len(counts)
    kinds = merge_adjacent(counts, most, entry)
    counts = counts[: int(kinds[-1]) + 1]
    return (contexts << 16) + total_cost(counts, entry), kinds, counts


def own_symbols(
    payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int, reference: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the symbols of a payload with tables of its own; raises CodecError if it is damaged."""
    contexts = Contexts.of(levels, reference is not None)
    bit, buckets = 0, np.arange(levels).astype(np.uint8)
    if levels > BUCKETS:
        edges = payload[: BUCKETS - 1]
        if edges.size < BUCKETS - 1 or edges[0] < 1 or np.any(edges[1:] < edges[:-1]) or edges[-1] >= levels:
            raise CodecError("the edges of buckets are impossible or truncated")
        buckets = buckets_of(edges, levels)
        bit = 8 * edges.size
    if 8 * payload.size < bit + contexts.number:
        raise CodecError(DAMAGED)
    kinds, count = read_kinds(payload, bit, contexts.number), math.prod(shape)
    if kinds[-1] >= contexts.most:
        raise CodecError("the classes of neighbours are impossible")
    frequencies, bit = read_tables(payload, bit + contexts.number - 1, count, int(kinds[-1]) + 1, levels)
    if bit == 0:
        raise CodecError("a table of frequencies is impossible or truncated")
    position = (bit + 7) // 8
    if is_constant(frequencies):
        if payload.size != position:
            raise CodecError("the payload has trailing bytes")
        return np.full(count, int(frequencies.argmax()), np.uint8)
    return contexts.model(frequencies, buckets, kinds).decode(payload, position, plane_layout(shape), reference)
