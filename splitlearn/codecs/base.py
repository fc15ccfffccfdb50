"""Base class of lossless codecs between symbols and bytes, and checks of their arguments."""

from __future__ import annotations

import math
import operator
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Grid, checked_integer
from splitlearn.outputs import init_args

MAX_LEVELS = 256
MAX_ELEMENTS = 2**31 - 1
Payload = bytes | bytearray | memoryview | NDArray[np.uint8]


class CodecError(ValueError):
    """A payload is damaged, truncated, too long, or was written by another codec."""


class Codec(ABC):
    """Base class of codecs: lossless codes for arrays of small integers.

    A codec is made in one of two ways. `Huffman()`, for example, is self-contained: each payload includes the code
    tables needed to decode it. `Huffman.fit(samples, levels)` returns a codec with static tables, computed once from
    arrays of samples; payloads leave the tables out, so the receiver needs the same codec. Codecs are immutable, and
    constructor arguments are attributes of the same names.

    Attributes:
        takes_reference: whether the frame before can be a context; if not, a reference is refused.

    A new codec is one file with a subclass that implements `_encode` and `_decode`. Arguments and results are checked
    in this class, and the contract tests find the subclass automatically.
    """

    takes_reference: ClassVar[bool] = False

    def encode(self, symbols: NDArray[np.uint8], levels: int, reference: NDArray[np.uint8] | None = None) -> bytes:
        """Return the encoded bytes of `symbols`, without a header (the bare code).

        Args:
            symbols: uint8 array of any shape, every value below `levels`, at most 2³¹−1 of them.
            levels: size of the alphabet, 2…256.
            reference: symbols of the frame before, of the same shape and levels, which the receiver has too; None
                codes the array by itself. Only `ContextRANS` takes one.

        Raises:
            ValueError: if an array is not uint8 or too large, a symbol is not below `levels`, `levels` is out of
                range, or the codec takes no reference or has one of another shape.
        """
        levels = checked_levels(levels)
        if reference is None:
            return self._encode_checked(symbols, levels)
        symbols = checked_symbols(symbols, levels)
        reference = checked_reference(reference, symbols.shape, levels)
        return self._encode_after(symbols, levels, reference) if symbols.size else b""

    def decode(
        self, payload: Payload, shape: tuple[int, ...], levels: int, reference: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return the symbols that `encode` wrote.

        Args:
            payload: bytes that an equal codec's `encode` returned.
            shape: shape of the encoded array.
            levels: the `levels` it was encoded with.
            reference: the `reference` it was encoded with.

        Returns:
            A new uint8 array of that shape, every value below `levels`.

        Raises:
            CodecError: if damage is detected: truncation, trailing bytes, impossible codes.
            ValueError: if `levels` is out of range, a dimension is negative, the shape has too many elements, or the
                payload is not a bytes object.
        """
        shape, levels = checked_shape(shape), checked_levels(levels)
        reference = None if reference is None else checked_reference(reference, shape, levels)
        return self._decode_checked(as_array(payload), shape, levels, reference)

    @abstractmethod
    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        """Return the code of `symbols`: checked, contiguous and read-only, of any shape, not empty."""

    @abstractmethod
    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        """Return the symbols of an array of `shape` as a new array, or raise CodecError.

        The array may be flat; `decode` reshapes it and checks it against `levels`. A `shape` that `payload` cannot hold
        must be refused before memory of that size is allocated. `shape` has at least one element.
        """

    def _encode_after(self, symbols: NDArray[np.uint8], levels: int, reference: NDArray[np.uint8]) -> bytes:
        """Return the code of `symbols` beside a reference of the same shape; both are as in `_encode`.

        A codec that has this and `_decode_after` also sets `takes_reference`.
        """
        raise self._takes_no_reference()

    def _decode_after(
        self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int, reference: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Return the symbols of a code of `_encode_after`; everything else as `_decode`."""
        raise self._takes_no_reference()

    def _takes_no_reference(self) -> ValueError:
        return ValueError(
            f"{type(self).__name__} codes every frame by itself: leave the reference out, or use ContextRANS"
        )

    def _encode_checked(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        """Return the code of `symbols`, which are checked here, for `levels` that are."""
        symbols = checked_symbols(symbols, levels)
        return self._encode(symbols, levels) if symbols.size else b""

    def _encode_latent(self, latent: NDArray[np.float32], grid: Grid) -> tuple[bytes, tuple[float, ...]]:
        """Return the code of a non-empty latent and the floats of its quantization; fast codecs fuse both steps."""
        symbols, floats = grid.quantize(latent)
        symbols.flags.writeable = False
        return self._encode(symbols, grid.levels), floats

    def _decode_latent(
        self,
        payload: NDArray[np.uint8],
        shape: tuple[int, ...],
        floats: tuple[float, ...],
        grid: Grid,
        out: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Return the latent of a code of `_encode_latent`, in `out` if given; raise CodecError as `_decode`."""
        return grid.dequantize(self._decode_checked(payload, shape, grid.levels), floats, out)

    def _decode_checked(
        self,
        payload: NDArray[np.uint8],
        shape: tuple[int, ...],
        levels: int,
        reference: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Return the symbols of one bare code, for arguments that are checked; raise CodecError as `decode`."""
        if 0 in shape:
            if payload.size:
                raise CodecError("the payload has trailing bytes: an empty array has an empty code")
            return np.empty(shape, np.uint8)
        if reference is None:
            symbols = self._decode(payload, shape, levels)
        else:
            symbols = self._decode_after(payload, shape, levels, reference)
        if symbols.size != math.prod(shape) or largest(symbols.reshape(-1)) >= levels:
            raise CodecError(f"the payload holds a symbol that is not below levels={levels}")
        return symbols.reshape(shape)

    @classmethod
    def fit(cls, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return `cls().fitted(samples, levels)`: a codec with static tables fitted to `samples`."""
        return cls().fitted(samples, levels)

    @classmethod
    def from_tables(cls, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return `cls().with_tables(tables)`: a codec with these static tables."""
        return cls().with_tables(tables)

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a copy of this codec with static tables fitted to `samples`; itself if it has no tables.

        Args:
            samples: representative symbol arrays.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, or `levels` is out of range.
        """
        checked_levels(levels)
        return self

    def fitted_to_sequences(self, sequences: Iterable[Iterable[NDArray[np.uint8]]], levels: int) -> Self:
        """Return a copy of this codec with static tables fitted to frames in their order.

        Codecs that take no reference ignore the order.

        Args:
            sequences: one or several videos, each as the symbol arrays of its frames.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: as `fitted`, or if frames of a sequence differ in shape.
        """
        return self.fitted(chain.from_iterable(sequences), levels)

    @cached_property
    def identity(self) -> int:
        """32-bit checksum of class name, arguments and static tables.

        Raises:
            TypeError: if an argument is not a number, text, flag or None.
        """
        arguments = sorted(init_args(self).items())
        for name, value in arguments:
            if not (value is None or isinstance(value, (bool, int, float, str))):
                raise TypeError(f"{type(self).__name__}({name}=…) must be a number, text, flag or None, got {value!r}")
        identity = zlib.crc32(f"{type(self).__name__}{arguments or ''}".encode())
        for name, table in sorted(self.tables().items()):
            little = np.ascontiguousarray(table, table.dtype.newbyteorder("<"))
            identity = zlib.crc32(f"\0{name}\0{little.dtype.str}{table.shape}\0".encode(), identity)
            identity = zlib.crc32(little.tobytes(), identity)
        return identity

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in init_args(self).items())
        tables = (
            f" with static tables of {sum(t.nbytes for t in self.tables().values())} bytes" if self.tables() else ""
        )
        return f"{type(self).__name__}({arguments}){tables}"

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static tables by name, for `with_tables`; empty if the codec is self-contained."""
        return {}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return a copy of this codec with these static tables, or with none.

        Raises:
            ValueError: if they are not tables of this codec.
        """
        if tables:
            raise ValueError(f"{type(self).__name__} takes no static tables, got {sorted(tables)}")
        return self


def checked_tables(codec: Codec, tables: Mapping[str, NDArray[np.generic]], *names: str) -> list[NDArray[np.generic]]:
    """Return static tables by names, in order; raises ValueError if names differ, or one is no numpy array."""
    if set(tables) != set(names) or not all(isinstance(tables[name], np.ndarray) for name in names):
        wanted = ", ".join(map(repr, names))
        raise ValueError(f"{type(codec).__name__} has numpy arrays {wanted} as static tables, got {sorted(tables)}")
    return [tables[name] for name in names]


def checked_counts(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return counts as 64-bit integers; raises ValueError if they are not 2…256 integers in 0…2³⁸."""
    counts = np.asarray(counts)
    if counts.ndim != 1 or not 2 <= counts.size <= 256 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"counts must be integers (levels,), got {counts.dtype} {counts.shape}: sum those of images first"
        )
    if counts.min() < 0 or counts.max() > 2**38:
        raise ValueError("counts must not be negative nor over 2³⁸")
    return counts.astype(np.int64)


def symbol_bits(levels: int) -> int:
    """Return the bits per symbol of a fixed-width code: ⌈log₂ levels⌉."""
    return int(levels - 1).bit_length()


def checked_levels(levels: int) -> int:
    """Return `levels` as a Python integer, as 8-bit ones of numpy would overflow; raises ValueError if not in 2…256."""
    return checked_integer("levels", levels, 2, MAX_LEVELS)


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return `checked_dimensions` of a shape; raises ValueError also if it has more than 2³¹−1 elements."""
    sizes = checked_dimensions(shape)
    if math.prod(sizes) > MAX_ELEMENTS:
        raise ValueError(f"shape {sizes} has more than 2³¹−1 elements")
    return sizes


def checked_dimensions(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape as a tuple of Python integers, because products of small numpy integers would overflow.

    Raises ValueError if it is not a sequence of integers, or a dimension is negative; elements are not limited.
    """
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        raise ValueError(f"a shape is a tuple of integers, got {shape!r}") from None
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape {sizes} has a negative dimension")
    return sizes


def as_array(payload: Payload) -> NDArray[np.uint8]:
    """Return a payload as a flat, read-only array, the only type for kernels; a view if possible.

    Raises:
        ValueError: if it is neither bytes nor an array or view of 8-bit integers.
    """
    if isinstance(payload, bytes):
        return np.frombuffer(payload, np.uint8)
    if isinstance(payload, (bytearray, memoryview, np.ndarray)):
        view = memoryview(cast("bytes", payload))  # for mypy, arrays are not buffers
        if view.itemsize == 1 and view.format in ("B", "b", "c"):
            data = np.frombuffer(view if view.c_contiguous else view.tobytes(), np.uint8)
            data.flags.writeable = False
            return data
    given = f"an array of {payload.dtype}" if isinstance(payload, np.ndarray) else f"a {type(payload).__name__} object"
    raise ValueError(f"a payload is bytes or an array of 8-bit integers, got {given}: give it as bytes")


def checked_symbols(symbols: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Return `symbols` contiguous and read-only, as a view if possible.

    Raises:
        ValueError: if they are not a uint8 array of at most 2³¹−1 values below `levels`.
    """
    if not isinstance(symbols, np.ndarray) or symbols.dtype != np.uint8:
        raise ValueError(
            f"symbols must be a uint8 numpy array, got {getattr(symbols, 'dtype', type(symbols).__name__)}"
        )
    if symbols.size > MAX_ELEMENTS:
        raise ValueError(f"at most 2³¹−1 symbols fit in one payload, got {symbols.size}")
    checked = np.asarray(symbols, order="C").view()
    checked.flags.writeable = False
    if (greatest := largest(checked.reshape(-1))) >= levels:
        raise ValueError(f"every symbol must be below levels={levels}, got {greatest}")
    return checked


def checked_reference(reference: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
    """Return `checked_symbols` of a reference; raises ValueError also if it does not have the symbols' shape."""
    try:
        reference = checked_symbols(reference, levels)
    except ValueError as error:
        raise ValueError(f"the reference: {error}") from error
    if reference.shape != shape:
        raise ValueError(f"a reference has the shape of the symbols, {shape}, got {reference.shape}")
    return reference


@njit
def largest(symbols: NDArray[np.uint8]) -> int:
    """Return the largest of flat symbols, 0 if there are none; numpy takes ten times as long for a small array."""
    greatest = np.uint8(0)
    for symbol in symbols:
        greatest = max(greatest, symbol)
    return int(greatest)
