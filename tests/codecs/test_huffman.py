"""Huffman against theory and a textbook twin, its table bit by bit, and damage to it."""

import functools
import heapq
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.codecs import CodecError, Huffman
from splitlearn.codecs._prefix import LIMIT, code_lengths
from splitlearn.codecs.huffman import FOUR_STREAMS_FROM
from splitlearn.testing import PROPERTY, random_symbols, symbol_arrays


def entropy_bits(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def textbook_cost(counts: list[int]) -> tuple[int, int]:
    """Total bits of an unlimited Huffman code, made with a heap, and the depth of its tree."""
    heap = [(count, 0) for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        (a, x), (b, y) = heapq.heappop(heap), heapq.heappop(heap)
        total += a + b
        heapq.heappush(heap, (a + b, max(x, y) + 1))
    return total, heap[0][1]


def limited_cost(counts: list[int], limit: int) -> int:
    """Total bits of the best code of limited length, by trying the sorted length sequences."""
    weights = sorted((count for count in counts if count), reverse=True)

    @functools.cache
    def best(index: int, length: int, room: int) -> float:
        if index == len(weights):
            return 0
        options = [
            weights[index] * bits + best(index + 1, bits, room - (1 << (limit - bits)))
            for bits in range(length, limit + 1)
            if room >= 1 << (limit - bits)
        ]
        return min(options, default=float("inf"))

    return int(best(0, 1, 1 << limit))


@PROPERTY
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=60).filter(lambda c: sum(x > 0 for x in c) > 1))
def test_lengths_are_optimal(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts, np.int64)).astype(np.int64)
    total, depth = textbook_cost(counts)
    cost = int((lengths * counts).sum())
    assert cost == total if depth <= LIMIT else cost >= total
    assert sum(2.0 ** -int(length) for length in lengths if length) == 1.0


@pytest.mark.parametrize("base", [2, 3])
def test_lengths_are_optimal_at_the_limit(base: int) -> None:
    counts = [base**k for k in range(15)]
    lengths = code_lengths(np.array(counts, np.int64)).astype(np.int64)
    assert lengths.max() == LIMIT
    assert int((lengths * counts).sum()) == limited_cost(counts, LIMIT)


@PROPERTY
@given(symbol_arrays(max_size=3000))
def test_size_lies_between_entropy_and_one_bit_more(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    size = len(Huffman().encode(symbols, levels))
    used = np.unique(symbols).size
    if used < 2:
        assert size <= 2
        return
    bits = entropy_bits(symbols)
    table = 1 + 13 * used  # each symbol of the used alphabet: absent ones before it and a length
    assert 8 * size >= bits
    assert 8 * size < bits + symbols.size + table + 8


def test_static_table_costs_nothing_and_fits() -> None:
    symbols = random_symbols((16, 8, 8), 16, 0.3, 3)
    codec = Huffman.fit([symbols], 16)
    lengths = codec.tables()["lengths"].astype(np.int64)
    assert len(codec.encode(symbols, 16)) == (int(lengths[symbols].sum()) + 7) // 8
    assert lengths[symbols].mean() < entropy_bits(symbols) / symbols.size + 1


def test_a_small_table_is_small() -> None:
    symbols = np.repeat(np.arange(7), [64, 32, 16, 8, 4, 2, 2]).astype(np.uint8)
    data_bits = 64 + 2 * 32 + 3 * 16 + 4 * 8 + 5 * 4 + 6 * 4
    # A zero, lengths 1 (same), 2…6 (one longer each), 6 (same): 1 + 1 + 5·2 + 1 bits.
    assert len(Huffman().encode(symbols, 256)) == (data_bits + 13 + 7) // 8


def test_payload_bit_by_bit() -> None:
    # Table 0 · 0 (length 1) · 10 (2) · 1110 1 (one absent) · 0 (2), codewords 0, 10, 11.
    payload = Huffman().encode(np.array([0, 1, 3, 0], np.uint8), 4)
    assert "".join(format(byte, "08b") for byte in payload) == "0010111010" + "0" + "10" + "11" + "0"


@pytest.mark.parametrize(("levels", "size"), [(2, 1), (128, 1), (129, 2), (256, 2)])
def test_one_symbol_has_the_empty_codeword(levels: int, size: int) -> None:
    for count in (1, 77, FOUR_STREAMS_FROM, 10**6):
        assert len(Huffman().encode(np.full(count, levels - 1, np.uint8), levels)) == size


def test_empty_array_is_an_empty_payload() -> None:
    empty = np.empty((0, 2), np.uint8)
    assert Huffman().encode(empty, 4) == Huffman.fit([], 4).encode(empty, 4) == b""


@pytest.mark.parametrize("count", [FOUR_STREAMS_FROM + extra for extra in (-1, 0, 1, 2, 3, 4, 17)])
@pytest.mark.parametrize("levels", [2, 256])
def test_around_the_threshold_of_four_parts(count: int, levels: int) -> None:
    symbols = random_symbols((count,), levels, 0.2, count)
    for codec in (Huffman(), Huffman.fit([symbols], levels)):
        payload = codec.encode(symbols, levels)
        np.testing.assert_array_equal(codec.decode(payload, (count,), levels), symbols)
        with pytest.raises(CodecError):
            codec.decode(payload[:-1], (count,), levels)


def test_every_symbol_has_a_static_codeword() -> None:
    codec = Huffman.fit([np.zeros(10**6, np.uint8)], 256)
    symbols = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(codec.decode(codec.encode(symbols, 256), (256,), 256), symbols)


def test_other_levels_than_fitted() -> None:
    codec = Huffman.fit([], 8)
    with pytest.raises(ValueError, match="fitted for levels=8, not 16"):
        codec.encode(np.zeros(3, np.uint8), 16)
    with pytest.raises(ValueError, match="fitted for levels=8, not 16"):
        codec.decode(b"\0", (3,), 16)


def test_tables_are_the_callers_own() -> None:
    codec = Huffman.fit([], 4)
    lengths = codec.tables()["lengths"]
    lengths[:] = 0
    assert Counter(codec.tables()["lengths"].tolist()) == {2: 4}


@pytest.mark.parametrize(
    "tables",
    [
        {"lengths": np.array([1, 1, 1], np.uint8)},  # oversubscribed
        {"lengths": np.array([1, 2, 3], np.uint8)},  # incomplete
        {"lengths": np.array([0, 1, 1], np.uint8)},  # a symbol without a codeword
        {"lengths": np.array([1], np.uint8)},
        {"lengths": np.array([*range(1, 13), 13, 13], np.uint8)},
        {"lengths": np.array([1, 1], np.int64)},
        {"lengths": np.array([[1, 1]], np.uint8)},
        {"counts": np.array([1, 1], np.uint8)},
        {"lengths": np.array([1, 1], np.uint8), "more": np.zeros(1)},
    ],
)
def test_refuses_wrong_tables(tables: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="length"):
        Huffman.from_tables(tables)


@pytest.mark.parametrize(
    "bits",
    [
        "0 0 10 10 0 0",  # incomplete at the last of 4 symbols
        "0 110",  # a length below 1
        "0 1111 1101",  # a length above 12
        "0 1111 0001",  # 'same' in the form meant for others
        "0 0 1110 1 1110 1 0",  # absent symbols in two runs
        "0 1110 00001 0000",  # more absent symbols than there are
        "0 1110 0000000000000",
        "0 0 1111 0",  # ends inside a length
        "0 10 0 0 110",  # oversubscribed
    ],
)
def test_impossible_tables(bits: str) -> None:
    digits = bits.replace(" ", "")
    payload = int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8), "big")
    with pytest.raises(CodecError):
        Huffman().decode(payload, (4,), 4)
