"""Compressed sparse rows: the non-zero symbols and their positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import Codec, CodecError, checked_levels, checked_symbols, checked_tables
from splitlearn.jit import njit

MAX_WIDTH = 65_535  # columns of a row: one more, and a full row would look like an empty one


class CompressedSparseRow(Codec):
    """Row pointers, columns and values of a sparse matrix: 2(P+1) + 3R bytes for P rows and R non-zero symbols.

    The first axis of an array (the channels of a feature map) gives the rows, all other axes are columns; an array of
    one axis or none is a single row. A row of more than 65,535 columns is divided into the fewest rows of equal width
    (the last may be narrower). Little-endian::

        2(P+1)  number of non-zero symbols before each row and in total, modulo 2¹⁶
        2R      column of each non-zero symbol, from 0 in each row
        R       its value

    R follows from the size of the code, and no row has 2¹⁶ entries, so pointers modulo 2¹⁶ are sufficient. The code of
    an array is unique, and the decoder accepts no other. It is shorter than one byte per symbol only if less than a
    third of the symbols are non-zero, and 4 to 10 times the order-0 entropy on activations: use it for comparison with
    the paper, or for very sparse maps.

    Symbol 0 is the zero of the matrix, unless `fit` finds a more frequent symbol, such as the zero point of an affine
    quantizer. The two symbols are then exchanged.

    The paper does not define its rows. Channels as rows reproduce the sizes of Tables III (24 rows, at most 72.0 KB)
    and IV (32 rows, at least 0.1 KB); 0.1 KB in Table V would need fewer rows than its 96 channels.

    Reference: Beysens et al. 2023, Sec. III-C.
    """

    def __init__(self) -> None:
        self._zero: int | None = None

    def fitted(self, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec that treats the most frequent symbol of `samples` as zero; in case of ties, the smallest one.

        Raises:
            ValueError: if a sample is not an array of symbols below `levels`, or `levels` is out of range.
        """
        levels = checked_levels(levels)
        counts = np.zeros(levels, np.int64)
        for sample in samples:
            counts += np.bincount(checked_symbols(sample, levels).reshape(-1), minlength=levels)
        return self.with_tables({"zero": np.array([counts.argmax()], np.uint8)})

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the zero symbol as `{"zero": uint8 (1,)}`, or nothing if it is symbol 0."""
        return {} if self._zero is None else {"zero": np.array([self._zero], np.uint8)}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the codec with the zero symbol in `tables`, by default symbol 0.

        Raises:
            ValueError: if it is not one uint8 symbol.
        """
        codec = type(self)()
        if tables:
            (zero,) = checked_tables(self, tables, "zero")
            if zero.shape != (1,) or zero.dtype != np.uint8:
                raise ValueError(f"'zero' must be one symbol as a uint8 array, got {zero.dtype} {zero.shape}")
            codec._zero = int(zero[0])
        return codec

    def _swapped(self, symbols: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
        """Return symbols with 0 and the zero symbol exchanged."""
        if not self._zero:
            return symbols
        if self._zero >= levels:
            raise ValueError(f"this code's zero is symbol {self._zero}, which is not below levels={levels}")
        places = np.arange(levels, dtype=np.uint8)
        places[[0, self._zero]] = self._zero, 0
        swapped: NDArray[np.uint8] = places[symbols]
        return swapped

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        symbols = self._swapped(symbols, levels)
        rows, length, width = _matrix(symbols.shape)
        entries = int(np.count_nonzero(symbols))
        pointers = np.zeros(rows + 1, np.uint16)
        columns = np.empty(entries + 1, np.uint16)
        values = np.empty(entries + 1, np.uint8)
        _gather(symbols.reshape(-1), length, width, pointers, columns, values)
        little = (array.astype("<u2", copy=False).tobytes() for array in (pointers, columns[:entries]))
        return b"".join((*little, values[:entries].tobytes()))

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        count = math.prod(shape)
        rows, length, width = _matrix(shape)
        head = 2 * (rows + 1)
        entries, rest = divmod(payload.size - head, 3)
        if rest or not 0 <= entries <= count:
            raise CodecError(
                f"the payload is truncated or has trailing bytes: {payload.size} bytes for {rows} rows, {count} symbols"
            )
        pointers = payload[:head].view("<u2").astype(np.uint16)
        sizes = np.diff(pointers)  # modulo 2¹⁶, as the pointers
        if pointers[0] != 0 or int(sizes.sum(dtype=np.int64)) != entries:
            raise CodecError(f"the row pointers contradict the {entries} entries of the payload")
        columns = payload[head : head + 2 * entries].view("<u2").astype(np.uint16)
        symbols = np.zeros(count, np.uint8)
        if not _scatter(sizes, columns, payload[head + 2 * entries :], levels, length, width, symbols):
            raise CodecError(f"the columns of a row don't rise below its width, or a value is not in 1…{levels - 1}")
        return self._swapped(symbols, levels)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the number of rows, the symbols of one index of the first axis, and the width of a row."""
    if math.prod(shape) == 0:
        return 0, 1, 1
    first = shape[0] if len(shape) > 1 else 1
    length = math.prod(shape) // first
    parts = -(-length // MAX_WIDTH)
    return first * parts, length, -(-length // parts)


@njit
def _gather(
    symbols: NDArray[np.uint8],
    length: int,
    width: int,
    pointers: NDArray[np.uint16],
    columns: NDArray[np.uint16],
    values: NDArray[np.uint8],
) -> None:
    """Fill pointers, columns and values; the last two have room for one more than there are entries.

    Every symbol is written, and the next one over it if it is a zero: no branch has to guess.
    """
    fill = row = 0
    for first in range(0, symbols.size, length):
        for start in range(first, first + length, width):
            for at in range(start, min(start + width, first + length)):
                columns[fill] = at - start
                values[fill] = symbols[at]
                fill += symbols[at] != 0
            row += 1
            pointers[row] = fill & 0xFFFF


@njit
def _scatter(
    sizes: NDArray[np.uint16],
    columns: NDArray[np.uint16],
    values: NDArray[np.uint8],
    levels: int,
    length: int,
    width: int,
    symbols: NDArray[np.uint8],
) -> bool:
    """Write `sizes[k]` entries of each row k over zeros; tell whether all columns and values are possible."""
    entry = row = 0
    for first in range(0, symbols.size, length):
        for start in range(first, first + length, width):
            least, stop = start, min(start + width, first + length)
            for _ in range(sizes[row]):
                at = start + int(columns[entry])
                if at < least or at >= stop or not 0 < values[entry] < levels:
                    return False
                symbols[at] = values[entry]
                least = at + 1
                entry += 1
            row += 1
    return True
