"""Range coding with left and upper neighbours as context: the smallest code of feature maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._context_tables import Contexts, OwnTables, own_symbols
from splitlearn.codecs._contexts import bucket_edges, buckets_of, count_indexes, merge_any
from splitlearn.codecs._groups import count_symbols
from splitlearn.codecs._rans import DAMAGED, Model, plane_layout
from splitlearn.codecs._rans_layout import BUCKETS, class_indexes
from splitlearn.codecs._rans_tables import normalized, scale_bits
from splitlearn.codecs.base import (
    Codec,
    CodecError,
    checked_levels,
    checked_reference,
    checked_symbols,
    checked_tables,
)
from splitlearn.codecs.rans import checked_frequencies

SAMPLE = 8  # a share of so much tells whether static tables with a reference are the smaller ones
ALONE, BESIDE = b"\0", b"\1"  # first byte of a code to which a reference was given: whether it is used
STATIC_CLASSES = 32  # largest number of static classes: their slots stay in the second-level cache
EACH_PAIR = np.arange(BUCKETS**2).astype(np.uint16)


class ContextRANS(Codec):
    """Range asymmetric numeral systems with frequencies that depend on the left and the upper neighbour.

    Feature maps are smooth: neighbours predict about a third of a symbol's information. On raw activations of 2 to 4
    bits, payloads are 10 to 50 % below the order-0 entropy, the lower bound of Huffman codes and `RANS`. On latents of
    bottlenecks with a stride, trained with a rate loss, they are 2 to 8 % below it. Encoding takes 1.5 to 2 times,
    decoding 2 to 3 times as long as `RANS`.

    The symbols of neighbours are grouped into buckets: with up to 16 levels each symbol is a bucket, with more levels
    there are 16 buckets, each a range of symbols. `ContextRANS()` sends frequency tables in each payload, one for each
    class of contexts. A class is a range of the sum of left and upper bucket; there are as many classes as make the
    payload smallest. `ContextRANS.fit` learns static tables for up to 32 classes of (left, upper) pairs. Payloads do
    not include static tables; if these were fitted to enough samples, the rest of the payload is smaller too, by a few
    per cent.

    With a `reference`, the frame before of a video, the bucket of the same place in it is a third neighbour: a class is
    then a range of sums beside one bucket of the reference. `fitted_to_sequences` learns static tables for both kinds.

    Rows are the last axis, planes the last two. Symbols are coded in up to eight interleaved lanes; a neighbour outside
    the plane or in another lane counts as symbol 0. A third neighbour, the same position in the channel before, was
    tried and saved only 0.1 %.

    Reference: Duda 2013, "Asymmetric numeral systems". Carra & Neglia 2023, Sec. IV-B, find no spatial correlation;
    our measurements differ.
    """

    takes_reference: ClassVar[bool] = True

    def __init__(self) -> None:
        self._static: Model | None = None
        self._static_after: Model | None = None

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        self._check_fitted(levels)
        flat, layout = symbols.reshape(-1), plane_layout(symbols.shape)
        if self._static is not None:
            return self._static.encode(flat, layout)
        return OwnTables.of(flat, layout, levels, None).encode(layout)

    def _encode_after(self, symbols: NDArray[np.uint8], levels: int, reference: NDArray[np.uint8]) -> bytes:
        self._check_fitted(levels)
        flat, layout, before = symbols.reshape(-1), plane_layout(symbols.shape), reference.reshape(-1)
        if self._static is not None and self._static_after is not None:
            some = max(layout.width, flat.size // SAMPLE)
            alone = self._static.cost(self._static.indexes_of(flat[:some], layout, None))
            indexes = self._static_after.indexes_of(flat, layout, before)
            if self._static_after.cost(indexes[:some]) < alone:
                return self._static_after.encode_indexes(indexes, layout, BESIDE)
            return ALONE + self._encode(symbols, levels)
        tables = OwnTables.of(flat, layout, levels, before)
        return BESIDE + tables.encode(layout) if tables.saves else ALONE + self._encode(symbols, levels)

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        self._check_fitted(levels)
        if self._static is not None:
            return self._static.decode(payload, 0, plane_layout(shape))
        return own_symbols(payload, shape, levels, None)

    def _decode_after(
        self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int, reference: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        self._check_fitted(levels)
        first, code = payload[:1].tobytes(), payload[1:]
        if first == ALONE:
            return self._decode(code, shape, levels)
        if first != BESIDE:
            raise CodecError(DAMAGED)
        if self._static_after is not None:
            return self._static_after.decode(code, 0, plane_layout(shape), reference.reshape(-1))
        return own_symbols(code, shape, levels, reference.reshape(-1))

    def _check_fitted(self, levels: int) -> None:
        if self._static is not None and self._static.frequencies.shape[1] != levels:
            fitted = self._static.frequencies.shape[1]
            raise ValueError(f"this code was fitted for levels={fitted}, not {levels}")

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec with static tables fitted to `samples`.

        Each class has 8 additional counts, distributed as all symbols together; unseen pairs of neighbours share a
        class with that distribution. Use at least ten arrays of 10,000 symbols; with fewer, `RANS` may be smaller.
        Above 16 levels the first 256 samples determine the buckets.

        Args:
            samples: representative symbol arrays; may be empty.
            levels: size of the alphabet, 2…256; the codec then works only for this size.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, or `levels` is out of range.
        """
        return self._fitted(((sample,) for sample in samples), checked_levels(levels), False)

    def fitted_to_sequences(self, sequences: Iterable[Iterable[NDArray[np.uint8]]], levels: int) -> Self:
        """Return a codec with static tables for first frames and for frames with the one before as reference.

        Args:
            sequences: one or several videos, each as the symbol arrays of its frames.
            levels: as of `fitted`.

        Raises:
            ValueError: as `fitted`, or if frames of a sequence differ in shape.
        """
        return self._fitted(sequences, checked_levels(levels), True)

    def _fitted(self, sequences: Iterable[Iterable[NDArray[np.uint8]]], levels: int, after: bool) -> Self:
        pairs = ((symbols, before) for sequence in sequences for symbols, before in _pairs(sequence, levels))
        first = list(islice(pairs, 256))
        buckets = np.arange(levels).astype(np.uint8)
        if levels > BUCKETS:
            seen = sum((count_symbols(symbols.reshape(-1), 8) for symbols, _ in first), np.ones(256, np.int64))
            buckets = buckets_of(bucket_edges(seen[:levels]), levels)
        contexts = Contexts.of(levels, True)
        counts = np.zeros((BUCKETS**2, levels), np.int64)
        counts_after = np.zeros((contexts.number, levels), np.int64)
        for symbols, before in chain(first, pairs):
            if symbols.size == 0:
                continue
            flat, layout = symbols.reshape(-1), plane_layout(symbols.shape)
            indexes = class_indexes(flat, layout, levels, buckets, EACH_PAIR, None)
            counts += count_indexes(indexes, BUCKETS**2, levels)
            if after and before is not None:
                its = buckets[before.reshape(-1)]
                indexes = class_indexes(flat, layout, levels, buckets, contexts.numbers, its)
                counts_after += count_indexes(indexes, contexts.number, levels)
        frequencies, classes = _static_tables(counts, levels)
        tables: dict[str, NDArray[np.generic]] = {"frequencies": frequencies, "buckets": buckets, "classes": classes}
        if after:
            frequencies, kinds = _static_tables(counts_after, levels)
            tables |= {"frequencies_after": frequencies, "classes_after": kinds[contexts.numbers]}
        return self.with_tables(tables)

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static tables, or nothing if payloads include their tables.

        `frequencies` uint16 `(classes, levels)`, `buckets` uint8 `(levels,)`, and `classes` uint16 `(256,)`; if they
        were fitted to sequences, also `frequencies_after` and `classes_after` `(4096,)`, for frames with a reference.
        """
        if self._static is None:
            return {}
        model, after = self._static, self._static_after
        tables: dict[str, NDArray[np.generic]] = {
            "frequencies": model.frequencies.copy(),
            "buckets": model.buckets.copy(),
            "classes": model.classes.copy(),
        }
        if after is not None:
            tables |= {"frequencies_after": after.frequencies.copy(), "classes_after": after.classes.copy()}
        return tables

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the codec with these static tables, or with none.

        Raises:
            ValueError: if they do not have the shapes of `tables`, or contradict each other.
        """
        codec = type(self)()
        if not tables:
            return codec
        names = ("frequencies", "buckets", "classes")
        after = ("frequencies_after", "classes_after") if set(tables) - set(names) else ()
        frequencies, buckets, classes, *more = checked_tables(self, tables, *names, *after)
        frequencies = checked_frequencies(frequencies)
        if buckets.dtype != np.uint8 or buckets.shape != frequencies.shape[1:] or not _rises(buckets):
            raise ValueError("'buckets' must be uint8, one for each level, rising from 0 to at most 15")
        kept = np.array(buckets, np.uint8)
        codec._static = Model(frequencies, kept, _checked_classes("classes", classes, frequencies, BUCKETS**2))
        if more:
            its = checked_frequencies(more[0])
            if its.shape[1:] != frequencies.shape[1:]:
                raise ValueError("'frequencies_after' must have as many levels as 'frequencies'")
            codec._static_after = Model(its, kept, _checked_classes("classes_after", more[1], its, BUCKETS**3))
        return codec


def _pairs(
    sequence: Iterable[NDArray[np.uint8]], levels: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Yield the frames of a sequence, each with the one before."""
    before = None
    for frame in sequence:
        symbols = checked_symbols(frame, levels)
        if before is not None:
            checked_reference(before, symbols.shape, levels)
        yield symbols, before
        before = symbols


def _static_tables(counts: NDArray[np.int64], levels: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return frequencies of classes, and the class of each context, from occurrences `(contexts, levels)`."""
    together = counts.sum(axis=0) * 16 + 1
    unseen = counts.sum(axis=1) == 0
    classes = merge_any(counts, STATIC_CLASSES - 1)
    number = 0 if unseen.all() else int(classes.max()) + 1
    classes[unseen] = number
    counts[number:] = 0
    scale = scale_bits(levels)
    lean = normalized(together, scale).astype(np.int64)
    weights = (counts[: int(classes.max()) + 1] << scale) + 8 * lean
    return np.stack([normalized(row, scale) for row in weights]), classes


def _checked_classes(
    name: str, classes: NDArray[np.generic], frequencies: NDArray[np.uint16], number: int
) -> NDArray[np.uint16]:
    if classes.dtype != np.uint16 or classes.shape != (number,) or int(classes.max()) >= len(frequencies):
        raise ValueError(f"'{name}' must be {number} uint16 numbers of rows of its frequencies")
    return np.array(classes, np.uint16)


def _rises(buckets: NDArray[np.generic]) -> bool:
    steps = np.diff(buckets.astype(np.int64))
    return bool(buckets[0] == 0 and np.all(steps >= 0) and buckets[-1] < BUCKETS)
