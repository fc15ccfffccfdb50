"""CompressedSparseRow: bytes worked out by hand, the size formula of the paper, and every kind of damage it names."""

import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given

from splitlearn.codecs.base import CodecError
from splitlearn.codecs.compressed_sparse_row import CompressedSparseRow
from splitlearn.testing import PROPERTY, random_symbols, symbol_arrays

LEVELS = 8
MATRIX = np.array([[0, 5, 0], [1, 0, 2]], np.uint8)
POINTERS, COLUMNS, VALUES = "0000 0100 0300", "0100 0000 0200", "05 01 02"


def slow_encode(matrix: np.ndarray) -> bytes:
    """The three arrays of a matrix whose rows are short, entry by entry."""
    pointers, columns, values = [0], [], []
    for row in matrix.tolist():
        for column, value in enumerate(row):
            if value:
                columns.append(column)
                values.append(value)
        pointers.append(len(values) % 2**16)
    return struct.pack(f"<{len(pointers) + len(columns)}H", *pointers, *columns) + bytes(values)


def decode(digits: str, shape: tuple[int, ...], levels: int = LEVELS) -> np.ndarray:
    return CompressedSparseRow().decode(bytes.fromhex(digits), shape, levels)


def test_a_matrix_by_hand() -> None:
    digits = f"{POINTERS} {COLUMNS} {VALUES}"
    assert CompressedSparseRow().encode(MATRIX, LEVELS) == bytes.fromhex(digits)
    np.testing.assert_array_equal(decode(digits, (2, 3)), MATRIX)


def test_the_commonest_symbol_is_the_zero_of_a_fitted_code() -> None:
    """INT8 features of both signs: what is 0.0 there is the zero point, not symbol 0."""
    codec, around_64 = CompressedSparseRow.fit([np.full((4, 9), 64, np.uint8)], 256), np.full((4, 9), 64, np.uint8)
    assert codec.encode(around_64, 256) == bytes(2 * (4 + 1))
    around_64[2, 5], around_64[3, 1] = 0, 65
    payload = codec.encode(around_64, 256)
    assert len(payload) == 2 * (4 + 1) + 3 * 2
    np.testing.assert_array_equal(codec.decode(payload, (4, 9), 256), around_64)
    with pytest.raises(ValueError, match="this code's zero is symbol 64"):
        codec.encode(np.zeros(3, np.uint8), 64)
    for wrong in (np.array([1, 2], np.uint8), np.array([1])):
        with pytest.raises(ValueError, match="'zero' must be one symbol"):
            codec.with_tables({"zero": wrong})


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((), 1),
        ((7,), 1),
        ((16, 32, 32), 16),
        ((1, 16, 32, 32), 1),
        ((65_535,), 1),
        ((65_536,), 2),
        ((3, 256, 256), 6),
        ((2, 65_535 * 2 + 1), 6),
    ],
)
def test_rows_are_those_of_the_first_axis(shape: tuple[int, ...], rows: int) -> None:
    codec = CompressedSparseRow()
    zeros = np.zeros(shape, np.uint8)
    assert codec.encode(zeros, LEVELS) == bytes(2 * (rows + 1))
    symbols = random_symbols(shape, LEVELS, 0.9, 1)
    payload = codec.encode(symbols, LEVELS)
    assert len(payload) == 2 * (rows + 1) + 3 * np.count_nonzero(symbols)
    np.testing.assert_array_equal(codec.decode(payload, shape, LEVELS), symbols)


@PROPERTY
@given(symbol_arrays())
def test_size_is_exactly_that_of_the_paper(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    payload = CompressedSparseRow().encode(symbols, levels)
    if symbols.size == 0:
        assert payload == b""
        return
    rows = symbols.shape[0] if symbols.ndim > 1 else 1
    assert len(payload) == 2 * (rows + 1) + 3 * np.count_nonzero(symbols)
    assert payload == slow_encode(symbols.reshape(rows, -1))


def test_sizes_printed_in_the_paper() -> None:
    codec = CompressedSparseRow()
    exit_5, exit_12 = np.ones((24, 32, 32), np.uint8), np.zeros((32, 16, 16), np.uint8)
    assert f"{len(codec.encode(exit_5, 256)) / 1024:.1f}" == "72.0"
    assert f"{len(codec.encode(exit_12, 256)) / 1024:.1f}" == "0.1"


@pytest.mark.parametrize("width", [40_000, 65_535, 65_536, 140_000])
def test_pointers_run_over(width: int) -> None:
    symbols = np.ones((3, width), np.uint8)
    symbols[1, 5:] = 0
    payload = CompressedSparseRow().encode(symbols, 2)
    np.testing.assert_array_equal(CompressedSparseRow().decode(payload, symbols.shape, 2), symbols)
    if width == 40_000:
        assert payload[:8] == struct.pack("<4H", 0, 40_000, 40_005, 80_005 - 65_536)


@pytest.mark.parametrize(
    ("pointers", "columns", "values", "message"),
    [
        ("0000 0100 0300", "0100 0000 0200", "05 01", "truncated or has trailing"),
        ("0000 0100 0300", "0100 0000 0200", "05 01 02 00", "truncated or has trailing"),
        ("0000 0100", "", "", "truncated or has trailing"),
        ("0000 0300 0700", "0000 0100 0200" * 2 + "0000", "01" * 7, "truncated or has trailing"),
        ("0100 0100 0300", "0100 0000 0200", "05 01 02", "pointers"),
        ("0000 0100 0400", "0100 0000 0200", "05 01 02", "pointers"),
        ("0000 ffff 0300", "0100 0000 0200", "05 01 02", "pointers"),
        ("0000 0000 0300", "0100 0000 0200", "05 01 02", "columns"),
        ("0000 0100 0300", "0100 0200 0200", "05 01 02", "columns"),
        ("0000 0100 0300", "0100 0000 0300", "05 01 02", "columns"),
        ("0000 0100 0300", "0100 0000 0200", "05 01 00", "value"),
        ("0000 0100 0300", "0100 0000 0200", "05 01 08", "value"),
    ],
)
def test_names_the_damage(pointers: str, columns: str, values: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(f"{pointers} {columns} {values}", (2, 3))


@pytest.mark.parametrize("shape", [(2**31 - 1,), (2**15, 2**16 - 1), (2**31 - 1, 1), (2, 2**30 - 1)])
def test_a_shape_that_is_too_large_allocates_nothing(shape: tuple[int, ...]) -> None:
    assert math.prod(shape) > 2**30
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="truncated"):
            CompressedSparseRow().decode(bytes(100), shape, LEVELS)
        with pytest.raises(CodecError, match="pointers"):  # the size of nothing but zeros, and a wrong pointer
            CompressedSparseRow().decode(bytes(65_537 + 2) + b"\1", (2**31 - 1,), LEVELS)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@PROPERTY
@given(symbol_arrays(max_size=60))
def test_only_the_encoders_bytes_are_taken(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    payload = CompressedSparseRow().encode(symbols, levels)
    for bit in range(8 * len(payload)):
        other = bytearray(payload)
        other[bit // 8] ^= 1 << bit % 8
        try:
            decoded = CompressedSparseRow().decode(bytes(other), symbols.shape, levels)
        except CodecError:
            continue
        assert CompressedSparseRow().encode(decoded, levels) == other
