"""ClippedGrid against its definition: a symbol is the number of its channel's thresholds that lie below a value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitlearn.numpy_quantizers import ClippedGrid
from splitlearn.testing import PROPERTY

Floats = NDArray[np.float32]


def drawn(seed: int, channels: int, levels: int) -> ClippedGrid:
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.normal(size=(channels, levels - 1)).round(1), axis=1).astype(np.float32)
    thresholds[rng.random(channels) < 0.2, levels // 2 :] = np.inf
    thresholds[rng.random(channels) < 0.2, : levels // 3] = -np.inf
    return ClippedGrid(thresholds, rng.normal(size=(channels, levels)).astype(np.float32))


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 2, 5]),
    levels=st.integers(2, 40) | st.just(256),
    shape=st.lists(st.integers(0, 12), max_size=2),
)
def test_symbols_count_the_thresholds_below(seed: int, channels: int, levels: int, shape: list[int]) -> None:
    grid = drawn(seed, channels, levels)
    latent = np.random.default_rng(seed + 1).normal(size=(channels, *shape)).round(1).astype(np.float32)
    symbols, floats = grid.quantize(latent)
    assert floats == grid.empty_floats() == ()
    rows = latent.reshape(channels, -1)
    expected = (rows[:, :, None] > grid.thresholds[:, None, :]).sum(-1).reshape(latent.shape)
    np.testing.assert_array_equal(symbols, expected)
    values = np.stack([grid.values[c][rows] for c, rows in enumerate(symbols.reshape(channels, -1))])
    np.testing.assert_array_equal(grid.dequantize(symbols), values.reshape(latent.shape))


@pytest.mark.parametrize("size", [4095, 4096, 4097, 10_000])
def test_channels_longer_than_a_part(size: int) -> None:
    grid = drawn(3, 2, 6)
    latent = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)
    expected = [np.searchsorted(grid.thresholds[c], latent[c]) for c in range(2)]
    np.testing.assert_array_equal(grid.quantize(latent)[0], expected)


def test_a_value_on_a_threshold_takes_the_lower_level() -> None:
    grid = ClippedGrid(np.array([[0.5, 0.5, 1.0]], np.float32), np.arange(4, dtype=np.float32)[None])
    just = np.nextafter(np.float32(0.5), np.float32(1))
    latent = np.array([-9.0, 0.5, just, 1.0, np.finfo(np.float32).max], np.float32)
    assert grid.quantize(latent)[0].tolist() == [0, 0, 2, 2, 3]


def test_any_layout_and_a_given_room() -> None:
    grid = drawn(1, 3, 5)
    latent = np.random.default_rng(0).normal(size=(3, 8, 10)).astype(np.float32)
    expected, _ = grid.quantize(latent)
    np.testing.assert_array_equal(grid.quantize(np.asfortranarray(latent))[0], expected)
    np.testing.assert_array_equal(grid.quantize(np.repeat(latent, 2, axis=2)[:, :, ::2])[0], expected)
    room = np.zeros((2, 3, 8, 10), np.uint8)
    grid.quantize(latent, out=room[1])
    np.testing.assert_array_equal(room[1], expected)
    assert not room[0].any()
    latents = np.zeros((2, 3, 8, 10), np.float32)
    grid.dequantize(np.asfortranarray(expected), out=latents[0])
    np.testing.assert_array_equal(latents[0], grid.dequantize(expected))


def test_one_row_serves_any_shape() -> None:
    grid = drawn(2, 1, 4)
    for shape in ((), (0,), (7,), (3, 4, 5)):
        symbols, _ = grid.quantize(np.ones(shape, np.float32))
        assert symbols.shape == grid.dequantize(symbols).shape == shape


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    latent = np.zeros((2, 50), np.float32)
    latent[1, 33] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        drawn(0, 2, 4).quantize(latent)


def test_other_channels_and_types_are_refused() -> None:
    grid = drawn(0, 3, 4)
    for shape in ((2, 3), (6,), (4, 3, 3)):
        with pytest.raises(ValueError, match="calibrated for 3 channels, the latent has shape"):
            grid.quantize(np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match="calibrated for 3 channels, the latent has shape"):
            grid.dequantize(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float32 numpy array, got an array of float64"):
        grid.quantize(np.zeros((3, 2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs 0 floats per image, got 1"):
        grid.dequantize(np.zeros((3, 2), np.uint8), (1.0,))


def row(*numbers: float) -> Floats:
    return np.array([numbers], np.float32)


@pytest.mark.parametrize(
    ("thresholds", "values", "message"),
    [
        (row(0).astype(np.float64), row(0, 1), "must be float32 arrays"),
        (row(0), row(0, 1).astype(np.float64), "must be float32 arrays"),
        (row(0)[0], row(0, 1)[0], "must be float32 arrays"),
        (row(), row(0), "do not go with"),
        (np.zeros((1, 256), np.float32), np.zeros((1, 257), np.float32), "do not go with"),
        (np.zeros((2, 1), np.float32), row(0, 1), "do not go with"),
        (row(0, np.nan), row(0, 1, 2), "ascending"),
        (row(np.nan), row(0, 1), "ascending"),
        (row(0), row(0, np.nan), "must be finite"),
    ],
)
def test_impossible_levels_are_refused(thresholds: Floats, values: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClippedGrid(thresholds, values)


def test_it_says_what_it_is() -> None:
    assert repr(drawn(0, 3, 4)) == "ClippedGrid(levels=4, channels=3)"
