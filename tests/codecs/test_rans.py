"""RANS and ContextRANS against the entropies that bound them, their tables, and damage they must notice."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.codecs import RANS, Codec, CodecError, ContextRANS, Huffman
from splitlearn.codecs._contexts import bucket_edges, buckets_of, logarithm, merge_adjacent, merge_any
from splitlearn.codecs._rans_tables import (
    mantissa_bits,
    normalized,
    read_tables,
    rounded,
    scale_bits,
    write_tables,
)
from splitlearn.testing import PROPERTY, random_symbols, symbol_arrays

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=256).filter(lambda counts: sum(map(bool, counts)) > 1)


def entropy_bytes(symbols: np.ndarray) -> float:
    """Order-0 entropy of an array in bytes."""
    share = np.bincount(symbols.reshape(-1)) / symbols.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum() * symbols.size / 8)


def smooth_maps(levels: int, channels: int, size: int, seed: int) -> np.ndarray:
    """Symbols of blurred noise after ReLU: neighbours resemble each other as in a feature map."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(channels, size + 8, size + 8))
    for axis in (1, 2):
        noise = np.add.reduce([np.roll(noise, k, axis) for k in range(-3, 4)])
    maps = np.maximum(noise[:, 4:-4, 4:-4], 0)
    symbols: np.ndarray = np.rint(maps / maps.max() * (levels - 1)).astype(np.uint8)
    return symbols


@PROPERTY
@given(COUNTS)
def test_frequencies_add_up_and_none_is_lost(counts: list[int]) -> None:
    scale = scale_bits(len(counts))
    frequencies = normalized(np.array(counts, np.int64), scale)
    assert frequencies.sum(dtype=np.int64) == 1 << scale
    assert np.array_equal(frequencies > 0, np.array(counts) > 0)


@PROPERTY
@given(COUNTS, st.integers(1, 2**31 - 1))
def test_tables_come_back(counts: list[int], count: int) -> None:
    weights = np.array([counts, counts[::-1]], np.int64)
    payload = np.zeros(2000, np.uint8)
    written, bit = write_tables(weights, count, payload, 3)
    read, after = read_tables(payload[: (bit + 7) // 8], 3, count, 2, len(counts))
    assert after == bit
    np.testing.assert_array_equal(read, written)
    scale, mantissa = scale_bits(len(counts)), mantissa_bits(count)
    np.testing.assert_array_equal(rounded(normalized(weights[0], scale), mantissa, scale), written[0])


@PROPERTY
@given(st.binary(max_size=200), st.integers(2, 256), st.integers(1, 2**20))
def test_damaged_tables_are_refused_or_legal(noise: bytes, levels: int, count: int) -> None:
    frequencies, bit = read_tables(np.frombuffer(noise, np.uint8), 0, count, 1, levels)
    if bit:
        assert bit <= 8 * len(noise)
        assert frequencies.sum(dtype=np.int64) == 1 << scale_bits(levels)


@pytest.mark.parametrize("levels", [2, 4, 8, 16, 64, 256])
@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.97])
def test_rans_is_near_the_entropy(levels: int, zeros: float) -> None:
    symbols = random_symbols((16, 32, 32), levels, zeros, levels)
    ideal = entropy_bytes(symbols)
    table = 1.2 * len(np.unique(symbols))
    assert ideal <= len(RANS().encode(symbols, levels)) <= 1.012 * ideal + table + 32
    static = RANS.fit([symbols], levels)
    assert len(static.encode(symbols, levels)) <= 1.01 * ideal + 34 + levels / 4  # each symbol counts a half more


def test_rans_is_within_two_thousandths_on_large_arrays() -> None:
    symbols = random_symbols((16, 224, 224), 8, 0.3, 0)
    assert len(RANS().encode(symbols, 8)) <= 1.002 * entropy_bytes(symbols)


def test_channels_with_tables_of_their_own_cost_their_entropies() -> None:
    symbols = np.stack([random_symbols((64, 64), 8, zeros, 1) for zeros in (0.0, 0.3, 0.6, 0.9)])
    ideal = sum(entropy_bytes(channel) for channel in symbols)
    shared, own = (len(RANS(per_channel).encode(symbols, 8)) for per_channel in (False, True))
    assert ideal < own < 1.03 * ideal + 60 < shared
    static = RANS(per_channel=True).fitted([symbols, symbols], 8)
    assert static.tables()["frequencies"].shape == (4, 8)
    np.testing.assert_array_equal(static.decode(static.encode(symbols, 8), symbols.shape, 8), symbols)


@pytest.mark.parametrize("levels", [4, 8, 16, 64, 256])
def test_context_is_worth_a_third_on_smooth_maps(levels: int) -> None:
    maps = [smooth_maps(levels, 16, 32, seed) for seed in range(6)]
    ideal = entropy_bytes(maps[-1])
    own = len(ContextRANS().encode(maps[-1], levels))
    static = len(ContextRANS.fit(maps[:-1], levels).encode(maps[-1], levels))
    huffman = len(Huffman().encode(maps[-1], levels))
    assert static < 0.85 * ideal
    assert own < 0.92 * huffman


def test_context_loses_little_where_neighbours_tell_nothing() -> None:
    symbols = random_symbols((16, 32, 32), 8, 0.3, 5)
    assert len(ContextRANS().encode(symbols, 8)) <= 1.01 * len(RANS().encode(symbols, 8)) + 4


@pytest.mark.parametrize("codec", [RANS(), RANS(per_channel=True), ContextRANS()])
@pytest.mark.parametrize(
    "shape",
    [(5000,), (3, 5000), (17, 300), (3, 80, 81), (16, 32, 32), (600, 4, 4), (2048, 1, 1), (2, 3, 40, 50), (1, 1, 9000)],
)
def test_every_layout_comes_back(codec: Codec, shape: tuple[int, ...]) -> None:
    symbols = random_symbols(shape, 8, 0.4, 2)
    codecs = (codec, codec.fitted([symbols], 8))
    for one in codecs:
        np.testing.assert_array_equal(one.decode(one.encode(symbols, 8), shape, 8), symbols)


def test_a_constant_array_is_its_table() -> None:
    for codec in (RANS(), ContextRANS()):
        assert len(codec.encode(np.full((64, 64, 64), 5, np.uint8), 8)) <= 5


def test_counts_make_the_tables_that_samples_make() -> None:
    symbols = random_symbols((4, 30, 30), 8, 0.4, 3)
    counts = np.bincount(symbols.reshape(-1), minlength=8)
    assert RANS.from_counts(counts).identity == RANS.fit([symbols], 8).identity
    assert Huffman.from_counts(counts).identity == Huffman.fit([symbols], 8).identity
    by_channel = np.stack([np.bincount(channel.reshape(-1), minlength=8) for channel in symbols])
    assert (
        RANS(per_channel=True).with_counts(by_channel).identity == RANS(per_channel=True).fitted([symbols], 8).identity
    )


@pytest.mark.parametrize(
    "counts", [np.array([3]), np.array([-1, 3]), np.zeros(3), np.ones((2, 3), np.int64), np.full(3, 2**50)]
)
def test_refuses_counts(counts: np.ndarray) -> None:
    for cls in (RANS, Huffman):
        with pytest.raises(ValueError, match="counts"):
            cls.from_counts(counts)


def test_refuses_what_the_tables_were_not_fitted_for() -> None:
    symbols = random_symbols((4, 30, 30), 8, 0.4, 3)
    with pytest.raises(ValueError, match="fitted for levels=8"):
        RANS.fit([symbols], 8).encode(symbols, 16)
    with pytest.raises(ValueError, match="fitted for levels=8"):
        ContextRANS.fit([symbols], 8).encode(symbols, 16)
    static = RANS(per_channel=True).fitted([symbols], 8)
    with pytest.raises(ValueError, match="4 channels"):
        static.encode(symbols[:2], 8)
    with pytest.raises(ValueError, match="channels"):
        RANS(per_channel=True).fitted([symbols, symbols[:2]], 8)
    with pytest.raises(ValueError, match="without a sample"):
        RANS(per_channel=True).fitted([], 8)


@pytest.mark.parametrize(
    "tables",
    [
        {"other": np.zeros(3)},
        {"frequencies": np.full((1, 8), 512)},
        {"frequencies": np.full((1, 8), 511, np.uint16)},
        {"frequencies": np.array([[4096, 0]], np.uint16)},
        {"frequencies": np.full((2, 8), 512, np.uint16)},
    ],
)
def test_refuses_tables(tables: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="frequencies"):
        RANS().with_tables(tables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buckets", np.zeros(7, np.uint8)),
        ("buckets", np.arange(1, 9).astype(np.uint8)),
        ("buckets", np.array([0, 1, 2, 3, 4, 5, 4, 6], np.uint8)),
        ("classes", np.zeros(255, np.uint16)),
        ("classes", np.full(256, 40, np.uint16)),
    ],
)
def test_context_refuses_tables(name: str, value: np.ndarray) -> None:
    tables = dict(ContextRANS.fit([smooth_maps(8, 4, 16, 0)], 8).tables())
    with pytest.raises(ValueError, match=name):
        ContextRANS.from_tables({**tables, name: value})


def test_a_shape_that_is_too_large_allocates_nothing() -> None:
    symbols = random_symbols((16, 32, 32), 8, 0.4, 3)
    tracemalloc.start()
    try:
        for codec in (RANS(), RANS.fit([symbols], 8), ContextRANS.fit([symbols], 8)):
            payload = codec.encode(symbols, 8)
            with pytest.raises(CodecError):
                codec.decode(payload, (2**15, 2**15), 8)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@PROPERTY
@given(st.integers(1, 2**40))
def test_logarithm_is_right_to_a_thousandth(value: int) -> None:
    assert abs(logarithm(value) / 2**16 - np.log2(value)) < 1e-3


@PROPERTY
@given(symbol_arrays())
def test_merged_contexts_keep_all_counts(case: tuple[np.ndarray, int]) -> None:
    symbols, levels = case
    rng = np.random.default_rng(symbols.size)
    counts = rng.integers(0, 50, (12, levels)).astype(np.int64)
    counts[rng.integers(0, 12, 4)] = 0
    for merged, kinds in ((a := counts.copy(), merge_adjacent(a, 5, 6 << 16)), (b := counts.copy(), merge_any(b, 5))):
        assert kinds.max() < 5
        for kind in range(int(kinds.max()) + 1):
            np.testing.assert_array_equal(merged[kind], counts[kinds == kind].sum(axis=0))


@PROPERTY
@given(st.lists(st.integers(0, 1000), min_size=17, max_size=256).filter(any))
def test_buckets_rise_from_zero(counts: list[int]) -> None:
    buckets = buckets_of(bucket_edges(np.array(counts)), len(counts))
    assert buckets[0] == 0
    assert buckets.max() <= 15
    assert np.all(np.diff(buckets.astype(int)) >= 0)


def test_no_class_is_free_so_every_shape_can_be_too_large() -> None:
    channels = np.stack([np.full((64, 64), value, np.uint8) for value in (3, 0, 3, 7)])
    for codec in (RANS(per_channel=True), ContextRANS()):
        payload = codec.encode(channels, 8)
        np.testing.assert_array_equal(codec.decode(payload, channels.shape, 8), channels)
        with pytest.raises(CodecError):
            codec.decode(payload, (4, 2**14, 2**14), 8)
