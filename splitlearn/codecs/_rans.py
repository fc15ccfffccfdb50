"""Shared part of the codecs `RANS` and `ContextRANS`: encoding and decoding with given frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._contexts import count_indexes, logarithm
from splitlearn.codecs._rans_decoder import Tables, decode_plain, decode_rans
from splitlearn.codecs._rans_encoder import encode_rans
from splitlearn.codecs._rans_layout import BUCKETS, STATE_BYTES, Layout, class_indexes
from splitlearn.codecs._rans_tables import encoder_table, narrow_slots, scale_bits, slot_offsets, wide_slots
from splitlearn.codecs.base import CodecError, symbol_bits

FLAT_ROW = 1024  # symbols
NARROW_CLASSES = 32  # most classes whose slots hold all about a symbol, 16 KiB each
DAMAGED = "the payload is truncated, has trailing bytes or is damaged"


def lanes_for(count: int) -> int:
    """Return the number of interleaved rANS states for `count` symbols, 1 to 8.

    Several states let a processor overlap their computations, but each adds about three bytes to the payload.
    """
    return 1 << min(3, max(0, count.bit_length() - 11))


def plane_layout(shape: tuple[int, ...], channels: int = 1) -> Layout:
    """Return the layout of a non-empty array: its last axis is a row, its last two axes are a plane.

    If a plane has a single row, there are no upper neighbours, and rows have up to `FLAT_ROW` symbols instead.

    Args:
        shape: shape of the array.
        channels: size of the first axis if each index of it has separate classes, else 1.
    """
    size = math.prod(shape)
    height = shape[-2] if len(shape) > 1 else 1
    width = shape[-1] if height > 1 else min(size // channels, FLAT_ROW)
    rows = size // width
    if channels > 1 and size // channels % width:  # a row would reach into the next channel
        width, rows = size // channels, channels
    lanes = min(lanes_for(size), rows)
    return Layout(size, width, height, rows // lanes, lanes, -(-size // width) // channels)


@dataclass(frozen=True, eq=False)
class Model:
    """Frequency tables, and the rule that selects one for each symbol by its neighbours.

    Attributes:
        frequencies: one table per class, uint16 `(classes, levels)`; each adds up to 2^`scale_bits(levels)`.
        buckets: uint8 `(levels,)`: the bucket, 0…15, of each symbol when it is a neighbour; symbol 0 has bucket 0.
        classes: uint16 `(256,)`: the class of a symbol, at the index 16 · left bucket + upper bucket; with an array
            before as context `(4096,)`, at that index + 256 · bucket of the same place in it.
    """

    frequencies: NDArray[np.uint16]
    buckets: NDArray[np.uint8]
    classes: NDArray[np.uint16]

    @cached_property
    def _encoder(self) -> NDArray[np.uint64]:
        return encoder_table(self.frequencies, scale_bits(self.frequencies.shape[1]))

    @cached_property
    def _decoder(self) -> Tables:
        levels = self.frequencies.shape[1]
        scale, bits = scale_bits(levels), symbol_bits(levels)
        drop, narrow = np.uint64(scale - bits), self._is_narrow
        offsets = slot_offsets(self.classes, self.buckets, scale, narrow)
        if narrow:
            return Tables(np.uint64(scale), offsets, narrow_slots(self.frequencies), None, drop, None)
        return Tables(np.uint64(scale), offsets, *wide_slots(self.frequencies, scale, bits), drop, self.buckets)

    @property
    def _is_narrow(self) -> bool:
        """Whether a symbol fits in a bucket's number, and all of a symbol in one look-up of tables that stay small."""
        classes, levels = self.frequencies.shape
        return bool(levels <= BUCKETS and classes <= NARROW_CLASSES)

    @cached_property
    def _largest(self) -> int:
        return int(self.frequencies.max())

    def encode(self, symbols: NDArray[np.uint8], layout: Layout, start: bytes = b"") -> bytes:
        """Return the code of flat symbols, with the bytes `start` in front; a single class ignores the layout."""
        if len(self.frequencies) == 1:
            return start + self._coded(symbols, lanes_for(symbols.size), symbols.size // lanes_for(symbols.size))
        return self.encode_indexes(self.indexes_of(symbols, layout, None), layout, start)

    def indexes_of(
        self, symbols: NDArray[np.uint8], layout: Layout, reference: NDArray[np.uint8] | None
    ) -> NDArray[np.uint32]:
        """Return class · levels + symbol for each of the flat symbols, or of the first ones of an array.

        `reference` holds the flat symbols of the array before, if classes depend on them.
        """
        levels = self.frequencies.shape[1]
        return class_indexes(symbols, layout, levels, self.buckets, self.classes, self._buckets_of(reference))

    def encode_indexes(self, indexes: NDArray[np.uint32], layout: Layout, start: bytes) -> bytes:
        """Return the code as `encode`, given class · levels + symbol of each symbol."""
        if len(self.frequencies) == 1:
            return start + self._coded(indexes, lanes_for(indexes.size), indexes.size // lanes_for(indexes.size))
        return start + self._coded(indexes, layout.lanes, layout.lane_rows * layout.width)

    def _coded(self, indexes: NDArray[np.uint8] | NDArray[np.uint32], lanes: int, part: int) -> bytes:
        payload = np.empty(2 * indexes.size + STATE_BYTES * lanes, np.uint8)
        place = encode_rans(indexes, lanes, part, self._encoder, scale_bits(self.frequencies.shape[1]), payload)
        return payload[place:].tobytes()

    def cost(self, indexes: NDArray[np.uint32]) -> int:
        """Return the size of the code of symbols without its states, in units of 2⁻¹⁶ bits, given `indexes_of` them."""
        counts = count_indexes(indexes, *self.frequencies.shape)
        return int((counts * self._costs).sum())

    @cached_property
    def _costs(self) -> NDArray[np.int64]:
        """Size of each symbol in each class, in units of 2⁻¹⁶ bits; 0 of symbols that a class cannot code."""
        scale = scale_bits(self.frequencies.shape[1])
        each = [
            [(scale << 16) - logarithm(f) if f else 0 for f in row] for row in self.frequencies.astype(int).tolist()
        ]
        return np.array(each, np.int64)

    def decode(
        self, payload: NDArray[np.uint8], position: int, layout: Layout, reference: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return the flat symbols of the code that takes `payload` from byte `position` to its end.

        `reference` is that of `indexes_of`.

        Raises:
            CodecError: if it is damaged, or too short for the number of symbols.
        """
        levels, lanes = self.frequencies.shape[1], layout.lanes
        if len(self.frequencies) == 1:
            lanes = lanes_for(layout.size)
        scale = scale_bits(levels)
        bits = 8 * (payload.size - position)
        # A symbol of the largest frequency costs log₂(2ˢ / frequency) > 1.44 · (2ˢ − frequency) / 2ˢ bits.
        least = (1 << scale) - self._largest
        if bits < 8 * STATE_BYTES * lanes or layout.size * least > bits << scale:
            raise CodecError(f"{payload.size} bytes are too few for {layout.size} symbols: {DAMAGED}")
        symbols = np.empty(layout.size, np.uint8)
        if len(self.frequencies) == 1:
            is_whole = decode_plain(payload, position, lanes, self._decoder, symbols)
        else:
            before = _read_only(reference) if self._is_narrow else self._buckets_of(reference)
            is_whole = decode_rans(payload, position, layout, self._decoder, before, symbols)
        if not is_whole:
            raise CodecError(DAMAGED)
        return symbols

    def _buckets_of(self, reference: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Return the buckets of the array before; None if there is none."""
        if reference is None or self._is_each_its_own:
            return _read_only(reference)
        return _read_only(np.take(self.buckets, reference, mode="clip"))  # symbols are below levels; "raise" copies

    @cached_property
    def _is_each_its_own(self) -> bool:
        """Whether each symbol is its own bucket."""
        return bool(np.array_equal(self.buckets, np.arange(self.buckets.size)))


def _read_only(before: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """Return an array that cannot be written to: kernels are compiled, for seconds, for each kind that they meet."""
    if before is None:
        return None
    view = before.view()
    view.flags.writeable = False
    return view


def no_neighbours(frequencies: NDArray[np.uint16]) -> Model:
    """Return a model with frequencies `(classes, levels)` that does not depend on neighbours."""
    return Model(frequencies, np.zeros(frequencies.shape[1], np.uint8), np.zeros(BUCKETS**2, np.uint16))
