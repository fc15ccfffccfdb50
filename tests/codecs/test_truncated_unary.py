"""TruncatedUnary against a slow twin of unlimited integers, its ideal size and the entropy."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given

from splitlearn.codecs._truncated_unary_kernels import FAST, LEAST, SLOW, carry
from splitlearn.codecs.base import CodecError
from splitlearn.codecs.truncated_unary import MAX_RATIO, TruncatedUnary
from splitlearn.testing import PROPERTY, random_symbols, symbol_arrays


def bins(symbols: list[int], levels: int) -> list[tuple[int, int]]:
    """Position and value of each bin."""
    found = []
    for symbol in symbols:
        found += [(position, 1) for position in range(symbol)]
        if symbol < levels - 1:
            found.append((symbol, 0))
    return found


def slow_encode(symbols: list[int], levels: int) -> tuple[bytes, float]:
    """The code and its ideal bits, with one integer for the whole lower end of the interval."""
    estimates = {position: (2**31, 2**31, 0) for position in range(levels - 1)}
    low, width, digits, bits = 0, 2**64 - 1, 64, 0.0
    for position, value in bins(symbols, levels):
        fast, slow, seen = estimates[position]
        share = min(max((fast + slow) // 2**17, LEAST), 2**16 - LEAST)
        rate = 2**16 // (seen + 2)
        fast += (value * 2**32 - fast) * max(rate, 2**16 // FAST) // 2**16
        slow += (value * 2**32 - slow) * max(rate, 2**16 // SLOW) // 2**16
        estimates[position] = (fast, slow, seen + 1)
        bits -= math.log2((share if value else 2**16 - share) / 2**16)
        ones = width // 2**16 * share
        low, width = (low, ones) if value else (low + ones, width - ones)
        if width < 2**32:
            low, width, digits = low << 32, width << 32, digits + 32
    size = 0
    while True:
        size += 1
        unit = 2**digits >> 8 * size
        if unit and (last := -(-low // unit)) * unit + unit <= low + width:
            return last.to_bytes(size, "big"), bits


@pytest.mark.parametrize(
    ("symbols", "levels", "digits"),
    [
        ([], 2, ""),
        ([1], 2, "00"),  # 1 takes the lower half
        ([0], 2, "80"),
        ([1, 1], 2, "00"),  # 3/4 of the lower half, after a one
        ([1, 0], 2, "60"),  # from 3/8 = 0x60 / 256 on
        ([0, 1], 2, "80"),
        ([0, 0], 2, "a0"),  # from 1/2 + 1/2 · 1/4 on
        ([2], 3, "00"),  # bins 1, 1, each in a context of its own
        ([1], 3, "40"),
        ([0], 3, "80"),
    ],
)
def test_bytes_by_hand(symbols: list[int], levels: int, digits: str) -> None:
    payload = TruncatedUnary().encode(np.array(symbols, np.uint8), levels)
    assert payload.hex() == digits
    assert TruncatedUnary().decode(payload, (len(symbols),), levels).tolist() == symbols


def test_ideal_bits_by_hand() -> None:
    # Bins 10, 0, 11 with probabilities 1/2, 1/2; 1/4 after a one; 1/2 after a one and a zero, 1/4 after a zero.
    symbols = np.array([1, 0, 2], np.uint8)
    assert TruncatedUnary().ideal_bits(symbols, 3) == pytest.approx(1 + 1 + 2 + 1 + 2, abs=1e-3)
    assert TruncatedUnary().ideal_bits(symbols[:0], 3) == 0


@PROPERTY
@given(symbol_arrays())
def test_equals_the_slow_encoder(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    flat = symbols.reshape(-1).tolist()
    payload, bits = slow_encode(flat, levels) if flat else (b"", 0.0)
    assert TruncatedUnary().encode(symbols, levels) == payload
    assert TruncatedUnary().ideal_bits(symbols, levels) == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
@pytest.mark.parametrize("zeros", [0.0, 0.9, 0.999])
def test_equals_the_slow_encoder_on_many_words(levels: int, zeros: float) -> None:
    symbols = random_symbols((9001,), levels, zeros, levels)
    payload = TruncatedUnary().encode(symbols, levels)
    assert payload == slow_encode(symbols.tolist(), levels)[0]
    np.testing.assert_array_equal(TruncatedUnary().decode(payload, (9001,), levels), symbols)


def test_carries_run_through_full_bytes() -> None:
    payload = np.array([7, 1, 255, 255, 9], np.uint8)
    carry(payload, 4)
    assert payload.tolist() == [7, 2, 0, 0, 9]


@PROPERTY
@given(symbol_arrays())
def test_is_a_byte_or_two_longer_than_ideal(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    size, ideal = len(TruncatedUnary().encode(symbols, levels)), TruncatedUnary().ideal_bits(symbols, levels) / 8
    assert ideal <= size + 1e-9
    assert size < ideal + 2 or symbols.size == 0


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_independent_symbols_cost_a_little_more_than_their_entropy(share: float) -> None:
    symbols = np.minimum(np.random.default_rng(0).geometric(1 - share, 50_000) - 1, 7).astype(np.uint8)
    used = np.bincount(symbols) / symbols.size
    entropy = -(used[used > 0] * np.log2(used[used > 0])).sum() * symbols.size / 8
    assert entropy < len(TruncatedUnary().encode(symbols, 8)) < 1.13 * entropy


def test_changing_statistics_cost_less_than_the_entropy() -> None:
    channels = [random_symbols((1024,), 8, zeros, k) for k, zeros in enumerate((0.0, 1.0, 0.95, 0.2) * 4)]
    symbols = np.stack(channels)
    used = np.bincount(symbols.reshape(-1)) / symbols.size
    entropy = -(used[used > 0] * np.log2(used[used > 0])).sum() * symbols.size / 8
    assert len(TruncatedUnary().encode(symbols, 8)) < 0.9 * entropy


def test_a_constant_array_costs_no_less_than_the_refusal_assumes() -> None:
    assert math.ceil(8 * math.log(2) * 65536 / LEAST) == MAX_RATIO
    for value in (0, 1):
        symbols = np.full(3_000_000, value, np.uint8)
        payload = TruncatedUnary().encode(symbols, 2)
        assert 0.97 * symbols.size < len(payload) * MAX_RATIO < 1.03 * symbols.size + 5 * MAX_RATIO
        np.testing.assert_array_equal(TruncatedUnary().decode(payload, symbols.shape, 2), symbols)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 100, bytes(100)])
def test_a_shape_that_is_too_large_allocates_nothing(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="too few"):
            TruncatedUnary().decode(payload, (2**31 - 1,), 8)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("digits", "count", "message"),
    [
        ("80", 0, "trailing"),
        ("8000", 1, "trailing"),
        ("81", 1, "not written by this code"),
        ("ff" * 8, 1, "not written by this code"),
        ("ff" * 20, 1, "not written by this code"),
        ("55", 1000, "truncated"),
    ],
)
def test_names_the_damage(digits: str, count: int, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        TruncatedUnary().decode(bytes.fromhex(digits), (count,), 2)


@PROPERTY
@given(symbol_arrays(max_size=60))
def test_only_the_encoders_bytes_are_taken(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    payload = TruncatedUnary().encode(symbols, levels)
    for bit in range(8 * len(payload)):
        other = bytearray(payload)
        other[bit // 8] ^= 1 << bit % 8
        try:
            decoded = TruncatedUnary().decode(bytes(other), symbols.shape, levels)
        except CodecError:
            continue
        assert TruncatedUnary().encode(decoded, levels) == other


def test_ideal_bits_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="below levels"):
        TruncatedUnary().ideal_bits(np.array([3], np.uint8), 3)
