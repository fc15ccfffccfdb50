"""The contract of a codec: symbols to bytes and back, losslessly."""

from __future__ import annotations

import math
import operator
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Grid, checked_integer
from splitlearn.outputs import init_args

MAX_LEVELS = 256
MAX_ELEMENTS = 2**31 - 1
Payload = bytes | bytearray | memoryview | NDArray[np.uint8]


class CodecError(ValueError):
    """A payload that is damaged, truncated, too long, or was written by another codec."""


class Codec(ABC):
    """Lossless code for arrays of small integers.

    A codec holds its constructor's arguments, each under its own name, and at most static tables: `Codec()` is
    self-contained (whatever tables it needs ride in each payload), `Codec.fit(samples, levels)` carries tables out of
    band. Nothing about a codec changes by using it.

    A new codec is one file with one subclass that fills in `_encode` and `_decode`; arguments and results are checked
    here. The tests find it by walking the package.
    """

    def encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        """Return the bare code of `symbols`.

        Args:
            symbols: uint8 array of any shape, every value below `levels`, at most 2³¹−1 of them.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if the array is not uint8 or too large, a symbol is not below `levels`, or `levels` is out of
                range.
        """
        levels = checked_levels(levels)
        symbols = checked_symbols(symbols, levels)
        return self._encode(symbols, levels) if symbols.size else b""

    def decode(self, payload: Payload, shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        """Return the symbols of one bare code.

        Args:
            payload: bytes written by `encode` of an equal codec.
            shape: shape of the encoded array.
            levels: the `levels` it was encoded with.

        Returns:
            A new uint8 array of that shape, every value below `levels`.

        Raises:
            CodecError: where damage shows: truncated, trailing bytes, impossible codes.
            ValueError: if `levels` is out of range, a dimension is negative, the shape has too many elements, or the
                payload is no bytes.
        """
        return self._decode_checked(as_array(payload), checked_shape(shape), checked_levels(levels))

    @abstractmethod
    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        """Return the code of `symbols`: checked, contiguous and read-only, of any shape, not empty."""

    @abstractmethod
    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        """Return the symbols of an array of `shape` as a new array, or raise CodecError.

        It may be flat; `decode` gives it its shape and compares it with `levels`. A `shape` that `payload` cannot hold
        is to be refused before anything of that size is allocated. It has at least one element.
        """

    def _encode_latent(self, latent: NDArray[np.float32], grid: Grid) -> tuple[bytes, tuple[float, ...]]:
        """Return the code of a latent, not empty, and the floats of its quantization.

        Codecs for which a second call from Python counts do both in one.
        """
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
        """Return the latent that `_encode_latent` coded, in `out` if there is one; raise CodecError as `_decode`."""
        return grid.dequantize(self._decode_checked(payload, shape, grid.levels), floats, out)

    def _decode_checked(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        if 0 in shape:
            if payload.size:
                raise CodecError("the payload has trailing bytes: an empty array has an empty code")
            return np.empty(shape, np.uint8)
        symbols = self._decode(payload, shape, levels)
        if symbols.size != math.prod(shape) or largest(symbols.reshape(-1)) >= levels:
            raise CodecError(f"the payload holds a symbol that is not below levels={levels}")
        return symbols.reshape(shape)

    @classmethod
    def fit(cls, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return `cls().fitted(samples, levels)`: a codec with static tables learnt from `samples`."""
        return cls().fitted(samples, levels)

    @classmethod
    def from_tables(cls, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return `cls().with_tables(tables)`: the codec whose `tables()` these are."""
        return cls().with_tables(tables)

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec like this one with static tables learnt from `samples`.

        A code without tables has nothing to learn and is returned as it is; it does not look at the samples.

        Args:
            samples: symbol arrays like those to be coded.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, or `levels` is out of range.
        """
        checked_levels(levels)
        return self

    @cached_property
    def identity(self) -> int:
        """A 32-bit number that codecs of one class name share if arguments and static tables are the same.

        Raises:
            TypeError: if an argument is not a plain number, text or flag, whose text would tell it from any other.
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
        """Return the static tables by name, as `with_tables` takes them; empty if the codec is self-contained."""
        return {}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return a codec like this one with these static tables, or with none.

        Raises:
            ValueError: if they are not tables of this codec.
        """
        if tables:
            raise ValueError(f"{type(self).__name__} takes no static tables, got {sorted(tables)}")
        return self


def checked_tables(codec: Codec, tables: Mapping[str, NDArray[np.generic]], *names: str) -> list[NDArray[np.generic]]:
    """Return the static tables of these names, in this order.

    Raises:
        ValueError: if they are others, or no numpy arrays.
    """
    if set(tables) != set(names) or not all(isinstance(tables[name], np.ndarray) for name in names):
        wanted = ", ".join(map(repr, names))
        raise ValueError(f"{type(codec).__name__} has numpy arrays {wanted} as static tables, got {sorted(tables)}")
    return [tables[name] for name in names]


def checked_counts(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return how often each symbol occurs, as 64-bit integers.

    Raises:
        ValueError: if they are not integers `(levels,)` for 2…256 levels, none negative and none over 2³⁸.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not 2 <= counts.size <= 256 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"counts must be integers (levels,), got {counts.dtype} {counts.shape}: sum those of images first"
        )
    if counts.min() < 0 or counts.max() > 2**38:
        raise ValueError("counts must not be negative nor over 2³⁸")
    return counts.astype(np.int64)


def symbol_bits(levels: int) -> int:
    """Return how many bits one symbol takes in a fixed-width code: ⌈log₂ levels⌉."""
    return int(levels - 1).bit_length()


def checked_levels(levels: int) -> int:
    """Return `levels` as Python's own integer; one of numpy with 8 bits would overflow in sums.

    Raises:
        ValueError: if it is not the size of an alphabet, an integer in 2…256.
    """
    return checked_integer("levels", levels, 2, MAX_LEVELS)


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an array as a tuple of Python's own integers; products of numpy's small ones would overflow.

    Raises:
        ValueError: if it is no sequence of integers, a dimension is negative or there are more than 2³¹−1 elements.
    """
    sizes = checked_dimensions(shape)
    if math.prod(sizes) > MAX_ELEMENTS:
        raise ValueError(f"shape {sizes} has more than 2³¹−1 elements")
    return sizes


def checked_dimensions(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the dimensions of an array, of however many elements, as Python's own integers.

    Raises:
        ValueError: if they are no sequence of integers, or one is negative.
    """
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        raise ValueError(f"a shape is a tuple of integers, got {shape!r}") from None
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape {sizes} has a negative dimension")
    return sizes


def as_bytes(payload: Payload) -> bytes:
    """Return the bytes of a payload, whatever holds them.

    Raises:
        ValueError: if it is no bytes and no array or view of 8-bit integers.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview, np.ndarray)):
        view = memoryview(cast("bytes", payload))  # mypy knows arrays as no buffers
        if view.itemsize == 1 and view.format in ("B", "b", "c"):
            return view.tobytes()
    given = f"an array of {payload.dtype}" if isinstance(payload, np.ndarray) else f"a {type(payload).__name__} object"
    raise ValueError(f"a payload is bytes or an array of 8-bit integers, got {given}: give it as bytes")


def as_array(payload: Payload) -> NDArray[np.uint8]:
    """Return the bytes as a read-only array, so that kernels see one type whatever holds them; raises as `as_bytes`."""
    is_plain = isinstance(payload, bytearray) or (
        isinstance(payload, memoryview) and payload.c_contiguous and payload.format == "B"
    )
    data = np.frombuffer(payload if is_plain else as_bytes(payload), np.uint8)
    data.flags.writeable = False
    return data


def checked_symbols(symbols: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Return `symbols` contiguous and read-only; a view of them where possible.

    Raises:
        ValueError: if they are not a uint8 array of at most 2³¹−1 values below `levels`, or `levels` is out of range.
    """
    levels = checked_levels(levels)
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


@njit
def largest(symbols: NDArray[np.uint8]) -> int:
    """Return the largest of flat symbols, 0 if there are none; numpy takes ten times as long for a small array."""
    greatest = np.uint8(0)
    for symbol in symbols:
        greatest = max(greatest, symbol)
    return int(greatest)
