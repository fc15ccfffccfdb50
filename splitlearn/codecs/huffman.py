"""Canonical Huffman code with its table in the payload or static."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK, padded, peek, tail_is_clean
from splitlearn.codecs._groups import count_symbols
from splitlearn.codecs._huffman_decoder import WIDEST, decode_parts, decode_with_table, several_table
from splitlearn.codecs._huffman_encoder import (
    encode_latent_parts,
    encode_latent_with_table,
    encode_parts,
    encode_with_table,
    group_codes,
)
from splitlearn.codecs._prefix import FULL, LIMIT, TABLE_BITS, code_lengths, codeword_table, lookup_table
from splitlearn.codecs.base import (
    MAX_ELEMENTS,
    Codec,
    CodecError,
    checked_counts,
    checked_levels,
    checked_symbols,
    checked_tables,
    symbol_bits,
)
from splitlearn.numpy_quantizers import EvenGrid, Grid, Plan, flat_latent

FOUR_STREAMS_FROM = 1 << 14  # symbols; fixed by the format


_PROBLEMS = (
    "",
    "the table of codeword lengths is impossible or truncated",
    "the payload is truncated, has trailing bytes or set padding bits",
)


class Huffman(Codec):
    """Canonical Huffman code with codewords of at most 12 bits, optimal under that limit.

    `Huffman()` puts a table of codeword lengths before every code, about 2 bits for each symbol of the used alphabet;
    an array of one repeated symbol is coded as that symbol alone. `Huffman.fit` has a static table: its payloads
    include no table, and every symbol below `levels` has a codeword.

    An array of 2¹⁴ or more symbols is divided into four parts of equal size (the last takes the rest), coded one after
    the other; four independent chains of look-ups decode several times faster. The sizes in bytes of the first three
    parts are stored before them, byte-aligned after the table. Parts are padded with zero bits to a whole byte.

    The mean codeword is shorter than H+1 bits, where H is the entropy in bits per symbol (with its own table). No
    codeword is shorter than one bit, so it costs 1.3 to 1.8 times the entropy on activations of 2 bits, 1.05 to 1.2 at
    3 bits, 1.01 to 1.04 from 4 bits on. With static tables this is the fastest codec.

    Reference: Beysens et al. 2023 (canonical Huffman code of INT8 activations); Datta et al. 2022, Sec. II.
    """

    def __init__(self) -> None:
        self._lengths: NDArray[np.uint8] | None = None

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        self._check_fitted(levels)
        symbols = symbols.reshape(-1)
        bits, size_bytes, payload = symbol_bits(levels), _size_bytes(symbols.size), self._room(symbols.size)
        if self._lengths is None:
            end = encode_with_table(symbols, _group_size(bits, symbols.size), bits, payload, size_bytes)
        else:
            end = encode_parts(symbols, *self._codes, bits, payload, 0, size_bytes)
        return payload[:end].tobytes()

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        self._check_fitted(levels)
        count = math.prod(shape)
        if self._lengths is None and payload.size > 0 and payload[0] >> 7:
            return _decode_lone_symbol(payload, count, levels)
        _check_count(payload, count)
        symbols = np.empty(count, np.uint8)
        self._decode_to(payload, levels, None, None, symbols)
        return symbols

    def _decode_to(
        self,
        payload: NDArray[np.uint8],
        levels: int,
        plan: Plan | None,
        spacing: tuple[float, float] | None,
        out: NDArray[np.uint8] | NDArray[np.float32],
    ) -> None:
        """Write symbols of different values, or with a plan what they stand for, to a flat array."""
        size_bytes = _size_bytes(out.size)
        if self._lengths is None:
            problem = decode_with_table(payload, levels, size_bytes, plan, spacing, out)
        else:
            problem = 0 if decode_parts(payload, *self._look_ups, 0, size_bytes, plan, spacing, out) else 2
        if problem:
            raise CodecError(_PROBLEMS[problem])

    def _encode_latent(self, latent: NDArray[np.float32], grid: Grid) -> tuple[bytes, tuple[float, ...]]:
        if not isinstance(grid, EvenGrid):
            return super()._encode_latent(latent, grid)
        self._check_fitted(grid.levels)
        flat, count = flat_latent(latent), latent.size
        bits, size_bytes, payload = symbol_bits(grid.levels), _size_bytes(count), self._room(count)
        if self._lengths is None:
            how = grid.plan, _group_size(bits, count), bits
            end, ends = encode_latent_with_table(flat, *how, payload, size_bytes)
        else:
            end, ends = encode_latent_parts(flat, grid.plan, *self._codes, bits, payload, size_bytes)
        return payload[:end].tobytes(), grid.side_floats(ends)

    def _decode_latent(
        self,
        payload: NDArray[np.uint8],
        shape: tuple[int, ...],
        floats: tuple[float, ...],
        grid: Grid,
        out: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        is_lone = self._lengths is None and payload.size > 0 and payload[0] >> 7
        if is_lone or not isinstance(grid, EvenGrid):
            return super()._decode_latent(payload, shape, floats, grid, out)
        self._check_fitted(grid.levels)
        _check_count(payload, math.prod(shape))
        latent = np.empty(shape, np.float32) if out is None else out
        self._decode_to(payload, grid.levels, grid.plan, grid.spacing(floats), latent.reshape(-1))
        return latent

    def _room(self, count: int) -> NDArray[np.uint8]:
        """Return a buffer for the code of `count` symbols, zero at the place of a table or a first bit."""
        table = TABLE_BITS // 8 if self._lengths is None else 1
        payload = np.empty(table + count * self._longest // 8 + 4 * SLACK, np.uint8)
        payload[:table] = 0
        return payload

    @cached_property
    def _longest(self) -> int:
        return LIMIT if self._lengths is None else int(self._lengths.max())

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int]:
        """Codewords of single symbols and of groups for the static table, and the size of a group."""
        assert self._lengths is not None
        bits = symbol_bits(self._lengths.size)
        size = _group_size(bits, MAX_ELEMENTS)
        codes = codeword_table(self._lengths, 1 << bits)
        return codes, group_codes(codes, size, bits), size

    @cached_property
    def _look_ups(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        """Look-up tables of the static table for one symbol and for several."""
        assert self._lengths is not None
        single = lookup_table(self._lengths)
        return single, several_table(single, WIDEST)

    def _check_fitted(self, levels: int) -> None:
        if self._lengths is not None and self._lengths.size != levels:
            raise ValueError(f"this Huffman code was fitted for levels={self._lengths.size}, not {levels}")

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec with a static table fitted to `samples`.

        Half a count is added for every symbol, so that all have a codeword.

        Args:
            samples: representative symbol arrays; may be empty.
            levels: size of the alphabet, 2…256; the codec then works only for this size.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, or `levels` is out of range.
        """
        levels = checked_levels(levels)
        counts = np.zeros(256, np.int64)
        for sample in samples:
            counts += count_symbols(checked_symbols(sample, levels).reshape(-1), 8)
        return self.with_tables({"lengths": code_lengths(2 * counts[:levels] + 1)})

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> Self:
        """Return a codec with a static table from counts of symbols, for instance counted on a GPU.

        Args:
            counts: occurrences of each symbol, `(levels,)`; half a count is added to each, so that all have a codeword.

        Raises:
            ValueError: if they are not 2…256 counts.
        """
        return cls().with_tables({"lengths": code_lengths(2 * checked_counts(counts) + 1)})

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static table as `{"lengths": uint8 (levels,)}`, or nothing if payloads include their tables."""
        return {} if self._lengths is None else {"lengths": self._lengths.copy()}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the codec with this static table, or with none.

        Raises:
            ValueError: if they are not the codeword lengths, 1…12, of a complete prefix code for 2…256 symbols.
        """
        codec = type(self)()
        if not tables:
            return codec
        (lengths,) = checked_tables(self, tables, "lengths")
        if lengths.ndim != 1 or lengths.dtype != np.uint8 or not 2 <= lengths.size <= 256:
            raise ValueError("'lengths' must be a uint8 array of one length for each of 2…256 symbols")
        values = np.array(lengths, np.int64)
        if values.min() < 1 or values.max() > LIMIT or int((FULL >> values).sum()) != FULL:
            raise ValueError(f"'lengths' must be those of a complete prefix code with codewords of 1…{LIMIT} bits")
        codec._lengths = np.array(lengths, np.uint8)
        return codec


def _check_count(payload: NDArray[np.uint8], count: int) -> None:
    """Raise CodecError if there are more symbols than bits."""
    if count > 8 * payload.size:
        raise CodecError(f"the payload is truncated: {payload.size} bytes are too few for {count} symbols")


def _group_size(bits: int, count: int) -> int:
    """Return the number of symbols of n bits per look-up, for which a table is worth its cost at `count` symbols."""
    if bits <= 2 or (bits == 3 and count >= 1 << 16):
        return 4
    return 2 if bits <= 4 or (bits <= 6 and count >= 1 << 16) else 1


def _size_bytes(count: int) -> int:
    """Return the bytes of the size field of one of four parts; 0 for a single part."""
    if count < FOUR_STREAMS_FROM:
        return 0
    return ((count // 4 * LIMIT + 7) // 8).bit_length() // 8 + 1


def _decode_lone_symbol(payload: NDArray[np.uint8], count: int, levels: int) -> NDArray[np.uint8]:
    """Return `count` times the only symbol of the payload."""
    data, size = padded(payload), payload.size
    bits = 1 + symbol_bits(levels)
    symbol = peek(data, 1, bits - 1)
    if size != (bits + 7) // 8 or symbol >= levels or not tail_is_clean(data, bits):
        raise CodecError("the payload does not hold one symbol alone, though its first bit says so")
    return np.full(count, symbol, np.uint8)
