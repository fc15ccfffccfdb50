"""Order-0 range coding with interleaved states: within a few per cent of the entropy of each image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK
from splitlearn.codecs._groups import count_symbols
from splitlearn.codecs._rans import DAMAGED, Model, no_neighbours, plane_layout
from splitlearn.codecs._rans_tables import normalized, read_tables, scale_bits, write_tables
from splitlearn.codecs.base import (
    Codec,
    CodecError,
    checked_counts,
    checked_levels,
    checked_symbols,
    checked_tables,
    symbol_bits,
)

MOST_SLOTS = 1 << 20  # slots of tables in a payload, one byte each, for arrays of less than half as many symbols
MOST_TABLE_BITS = 26  # per symbol: 8 for the number of digits, 10 after the leading one, 8 for absent symbols before


class RANS(Codec):
    """Range asymmetric numeral systems with one table of frequencies, or one for each channel.

    A code is less than 1 % larger than the order-0 entropy, plus up to eight states of about 3 bytes and the table. In
    payloads of `RANS()` the table takes 5 to 7 bits for each symbol of the used alphabet, and a constant array is coded
    as its table alone. `RANS.fit` has a static table. Use it if size matters more than microseconds and neighbours are
    weakly correlated, as in strided latents trained with a rate term; otherwise use `ContextRANS`.

    The array is divided into 1 to 8 interleaved lanes. A payload consists of the table (unless static), the final
    states of 4 bytes each, and 16-bit words. Damage is detected if the decoder does not end in the initial states.

    Args:
        per_channel: one table for each index of the first axis instead of one for all. Useful for static tables and
            large maps. If tables of channels would take more memory than the array, all channels share one, unless
            tables are static.

    Reference: Duda 2013, "Asymmetric numeral systems".
    """

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = per_channel
        self._frequencies: NDArray[np.uint16] | None = None

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        self._check_fitted(symbols.shape, levels)
        flat = symbols.reshape(-1)
        if self._frequencies is not None:
            return self._model.encode(flat, plane_layout(symbols.shape, self._channels(symbols.shape)))
        channels = self._own_channels(symbols.shape, levels)
        layout = plane_layout(symbols.shape, channels)
        counts = _counts(symbols, channels, levels)
        table = np.zeros(counts.size * MOST_TABLE_BITS // 8 + SLACK, np.uint8)
        frequencies, bit = write_tables(counts, flat.size, table, 0)
        before = table[: (bit + 7) // 8].tobytes()
        if is_constant(frequencies):
            return before
        return no_neighbours(frequencies).encode(flat, layout, before)

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        self._check_fitted(shape, levels)
        if self._frequencies is not None:
            return self._model.decode(payload, 0, plane_layout(shape, self._channels(shape)))
        count, channels = math.prod(shape), self._own_channels(shape, levels)
        layout = plane_layout(shape, channels)
        if channels > 8 * payload.size:
            raise CodecError(f"{payload.size} bytes are too few for {channels} tables: {DAMAGED}")
        frequencies, bit = read_tables(payload, 0, count, channels, levels)
        if bit == 0:
            raise CodecError("the table of frequencies is impossible or truncated")
        position = (bit + 7) // 8
        if is_constant(frequencies):
            if payload.size != position:
                raise CodecError("the payload has trailing bytes")
            return np.full(count, int(frequencies.argmax()), np.uint8)
        return no_neighbours(frequencies).decode(payload, position, layout)

    def _channels(self, shape: tuple[int, ...]) -> int:
        return shape[0] if self.per_channel and len(shape) > 1 else 1

    def _own_channels(self, shape: tuple[int, ...], levels: int) -> int:
        """Return the number of tables in a payload: one if tables of channels would take more memory than the array."""
        channels = self._channels(shape)
        return channels if channels << scale_bits(levels) <= max(MOST_SLOTS, 2 * math.prod(shape)) else 1

    @cached_property
    def _model(self) -> Model:
        assert self._frequencies is not None
        return no_neighbours(self._frequencies)

    def _check_fitted(self, shape: tuple[int, ...], levels: int) -> None:
        if self._channels(shape) > 1 << 16:
            raise ValueError(f"at most 65,536 channels can have tables of their own, got shape {shape}")
        if self._frequencies is None:
            return
        channels, fitted = self._frequencies.shape
        if fitted != levels:
            raise ValueError(f"this code was fitted for levels={fitted}, not {levels}")
        if self._channels(shape) != channels:
            raise ValueError(f"this code was fitted for {channels} channels, not for shape {shape}")

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec with static tables fitted to `samples`; half a count is added for every symbol.

        Args:
            samples: representative symbol arrays, with equal numbers of channels if `per_channel`.
            levels: size of the alphabet, 2…256; the codec then works only for this size.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, numbers of channels differ, `levels` is
                out of range, or `per_channel` is set without samples.
        """
        levels = checked_levels(levels)
        total = None if self.per_channel else np.zeros((1, levels), np.int64)
        for sample in samples:
            symbols = checked_symbols(sample, levels)
            if symbols.size == 0:
                continue
            counts = _counts(symbols, self._channels(symbols.shape), levels)
            if total is not None and counts.shape != total.shape:
                raise ValueError(f"samples have {len(total)} and {len(counts)} channels")
            total = counts if total is None else total + counts
        if total is None:
            raise ValueError("tables for channels cannot be fitted without a sample")
        return self.with_counts(total)

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> Self:
        """Return a codec with static tables from counts of symbols, for instance counted on a GPU.

        Args:
            counts: occurrences of each symbol, integers `(levels,)`; half a count is added to each.

        Raises:
            ValueError: if they are not counts of 2…256 symbols.
        """
        return cls().with_counts(checked_counts(counts)[None])

    def with_counts(self, counts: NDArray[np.int64]) -> Self:
        """Return a copy of this codec with static tables from integer counts, `(channels, levels)` or `(1, levels)`.

        Raises:
            ValueError: if they are not counts of 2…256 symbols.
        """
        if counts.ndim != 2 or len(counts) == 0:
            raise ValueError(f"counts must have the shape (channels, levels), got {counts.shape}")
        counts = np.stack([checked_counts(row) for row in counts])
        scale = scale_bits(counts.shape[1])
        return self.with_tables({"frequencies": np.stack([normalized(2 * row + 1, scale) for row in counts])})

    def learnt(self, counts: NDArray[np.int64], density: Mapping[str, NDArray[np.float32]]) -> Self:
        """Return a copy of this code with the tables of a learnt density, from its expected counts.

        Args:
            counts: as in `with_counts`.
            density: means, scales and weights as in `DensityRANS.with_density`, which that code keeps instead.
        """
        return self.with_counts(counts)

    @classmethod
    def from_tables(cls, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return a codec with these static tables; several tables make it a `RANS(per_channel=True)`."""
        return cls(per_channel=len(tables.get("frequencies", ())) > 1).with_tables(tables)

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static tables as `{"frequencies": uint16 (channels or 1, levels)}`, or nothing."""
        return {} if self._frequencies is None else {"frequencies": self._frequencies.copy()}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the codec with these static tables, or with none.

        Raises:
            ValueError: if they are not positive frequencies that add up to 2¹² (up to 16 levels) or 2¹⁴.
        """
        codec = type(self)(self.per_channel)
        if not tables:
            return codec
        codec._frequencies = checked_frequencies(*checked_tables(self, tables, "frequencies"))
        if len(codec._frequencies) != 1 and not self.per_channel:
            raise ValueError(f"'frequencies' has {len(codec._frequencies)} tables: RANS(per_channel=True) takes them")
        return codec


def checked_frequencies(frequencies: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Return a copy of static frequency tables.

    Raises ValueError if they are not uint16 `(tables, levels)`, all positive, each row adding up to 2ˢ.
    """
    if frequencies.dtype != np.uint16 or frequencies.ndim != 2 or not 2 <= frequencies.shape[1] <= 256:
        raise ValueError("'frequencies' must be a uint16 array (tables, levels) for 2…256 levels")
    sums = frequencies.astype(np.int64).sum(axis=1)
    if (
        not 1 <= len(frequencies) <= 1 << 16
        or frequencies.min() < 1
        or np.any(sums != 1 << scale_bits(frequencies.shape[1]))
    ):
        raise ValueError("'frequencies' must be positive, and each table add up to 2¹² (up to 16 levels) or 2¹⁴")
    return np.array(frequencies, np.uint16)


def _counts(symbols: NDArray[np.uint8], channels: int, levels: int) -> NDArray[np.int64]:
    """Return the counts of symbols in each channel, `(channels, levels)`."""
    bits = symbol_bits(levels)
    if channels == 1:
        return count_symbols(symbols.reshape(-1), bits)[None, :levels]
    return np.stack([count_symbols(part, bits)[:levels] for part in symbols.reshape(channels, -1)])


def is_constant(frequencies: NDArray[np.uint16]) -> bool:
    """Return whether only one symbol can occur: there is one table, and that symbol has all of the frequency."""
    return len(frequencies) == 1 and np.count_nonzero(frequencies) == 1
