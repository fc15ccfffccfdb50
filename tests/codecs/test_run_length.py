"""RunLength against a slow twin made of strings, and every kind of damage it names."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given

from splitlearn.codecs import CodecError, RunLength
from splitlearn.testing import PROPERTY, random_symbols, symbol_arrays

LEVELS = 8  # n = 3, codewords of four bits: one hexadecimal digit each


def slow_encode(symbols: list[int], levels: int) -> bytes:
    """Carra & Neglia 2023, Sec. VI, word by word."""
    n = max(1, (levels - 1).bit_length())
    bits = ""
    at = 0
    while at < len(symbols):
        if symbols[at]:
            bits += "0" + format(symbols[at], f"0{n}b")
            at += 1
            continue
        run = 0
        while at + run < len(symbols) and symbols[at + run] == 0 and run < 2**n:
            run += 1
        bits += "1" + format(run - 1, f"0{n}b")
        at += run
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def decode(digits: str, count: int, levels: int = LEVELS) -> list[int]:
    decoded: list[int] = RunLength().decode(bytes.fromhex(digits), (count,), levels).tolist()
    return decoded


def test_worked_example_of_the_paper() -> None:
    symbols = np.array([3, 4, 0, 0, 0, 0, 0, 7], np.uint8)
    assert RunLength().encode(symbols, LEVELS) == bytes([0x34, 0xC7])


def test_twenty_zeros_are_runs_of_8_8_4() -> None:
    assert RunLength().encode(np.zeros(20, np.uint8), LEVELS).hex() == "ffb0"


@PROPERTY
@given(symbol_arrays())
def test_equals_the_slow_encoder(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    assert RunLength().encode(symbols, levels) == slow_encode(symbols.reshape(-1).tolist(), levels)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 16, 17, 128, 129, 256])
@pytest.mark.parametrize("zeros", [0.2, 0.9, 0.999])
def test_equals_the_slow_encoder_across_blocks(levels: int, zeros: float) -> None:
    symbols = random_symbols((9001,), levels, zeros, levels)
    payload = RunLength().encode(symbols, levels)
    assert payload == slow_encode(symbols.tolist(), levels)
    np.testing.assert_array_equal(RunLength().decode(payload, (9001,), levels), symbols)


@pytest.mark.parametrize("levels", [2, 8, 128, 256])
def test_runs_of_every_length_around_a_block(levels: int) -> None:
    for start in (4080, 4090, 4095, 4096):
        for run in range(1, 24):
            symbols = np.ones(4200, np.uint8)
            symbols[start : start + run] = 0
            assert RunLength().encode(symbols, levels) == slow_encode(symbols.tolist(), levels)


@pytest.mark.parametrize(
    ("digits", "count", "levels", "message"),
    [
        ("34", 8, 8, "truncated"),
        ("34c700", 8, 8, "trailing"),
        ("34c1", 7, 8, "padding"),
        ("34f7", 8, 8, "passes the end"),
        ("34c7", 8, 7, "not below"),
        ("", 1, 8, "too few"),
        ("34c7", 10_000, 8, "too few"),
    ],
)
def test_names_the_damage(digits: str, count: int, levels: int, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(digits, count, levels)


def test_other_ways_to_write_zeros_are_taken() -> None:
    assert decode("3488a7", 8) == [3, 4, 0, 0, 0, 0, 0, 7]  # runs of 1, 1 and 3
    assert decode("34000007", 8) == [3, 4, 0, 0, 0, 0, 0, 7]  # five literals


def test_a_shape_that_is_too_large_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="too few"):
            RunLength().decode(b"\xff" * 100, (2**30,), LEVELS)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
