"""Counts of symbols made by torch, against numpy's, one row at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from splitlearn.quantizers import MinMax, channel_histogram, histogram
from splitlearn.testing import PROPERTY


def by_numpy(rows: NDArray[np.uint8], levels: int) -> NDArray[np.int64]:
    counts = [np.bincount(row.reshape(-1), minlength=256)[:levels] for row in rows]
    return np.array(counts, np.int64).reshape(len(rows), levels)


@PROPERTY
@given(st.lists(st.integers(0, 7), min_size=2, max_size=4), st.integers(2, 256), st.integers(0, 2**32 - 1))
def test_counts_are_those_of_numpy(shape: list[int], levels: int, seed: int) -> None:
    symbols = np.random.default_rng(seed).integers(0, levels, shape).astype(np.uint8)
    counts, of_channels = (count(torch.tensor(symbols), levels) for count in (histogram, channel_histogram))
    np.testing.assert_array_equal(counts.numpy(), by_numpy(symbols, levels), strict=True)
    np.testing.assert_array_equal(of_channels.numpy(), by_numpy(symbols.swapaxes(0, 1), levels), strict=True)


@pytest.mark.parametrize("count", [histogram, channel_histogram])
def test_memory_layout_does_not_matter(count: Callable[[Tensor, int], Tensor]) -> None:
    symbols = torch.randint(0, 8, (3, 4, 10, 12), dtype=torch.uint8)
    expected = count(symbols, 8)
    strided = symbols.repeat_interleave(2, dim=3)[..., ::2]
    for other in (symbols.to(memory_format=torch.channels_last), strided, symbols.mT.contiguous().mT):
        assert not other.is_contiguous()
        assert torch.equal(count(other, 8), expected)
    assert expected.is_contiguous()
    assert torch.equal(count(symbols[:1].expand(3, -1, -1, -1), 8).sum(0), 3 * count(symbols[:1], 8).sum(0))


def test_one_symbol_an_image() -> None:
    assert histogram(torch.tensor([2, 0], dtype=torch.uint8), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_many_images() -> None:
    symbols = (torch.arange(40_000) % 255).to(torch.uint8)[:, None]
    counts = histogram(symbols, 255)
    assert torch.equal(counts.argmax(1), symbols[:, 0].long())
    assert counts.sum().item() == 40_000


def test_what_is_no_symbol_is_left_out_and_does_not_spill_into_the_next_image() -> None:
    symbols = torch.tensor([[3, 255, 1], [0, 4, 0]], dtype=torch.uint8)
    assert histogram(symbols, 4).tolist() == [[0, 1, 0, 1], [2, 0, 0, 0]]
    assert channel_histogram(symbols, 4).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32, torch.bool])
def test_refuses_other_types(dtype: torch.dtype) -> None:
    for count in (histogram, channel_histogram):
        with pytest.raises(ValueError, match="symbols must be a uint8 tensor"):
            count(torch.zeros(2, 3, dtype=dtype), 8)


@pytest.mark.parametrize("levels", [-1, 0, 1, 257])
def test_refuses_other_alphabets(levels: int) -> None:
    for count in (histogram, channel_histogram):
        with pytest.raises(ValueError, match="levels must lie in 2…256"):
            count(torch.zeros(2, 3, dtype=torch.uint8), levels)


def test_refuses_missing_dimensions() -> None:
    with pytest.raises(ValueError, match="1 or more dimensions"):
        histogram(torch.tensor(1, dtype=torch.uint8), 8)
    with pytest.raises(ValueError, match="2 or more dimensions"):
        channel_histogram(torch.zeros(3, dtype=torch.uint8), 8)


def test_never_looks_at_a_value() -> None:
    symbols = torch.zeros(2, 3, 4, dtype=torch.uint8, device="meta")  # has no values: whoever asks for one fails
    assert histogram(symbols, 8).shape == (2, 8)
    assert channel_histogram(symbols, 8).shape == (3, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_quantizes_and_counts_on_the_device() -> None:
    latent = torch.randn(4, 6, 20, 21).relu()
    symbols, _ = MinMax(4).quantize(latent.cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts, of_channels = histogram(symbols, 16), channel_histogram(symbols, 16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert counts.device == of_channels.device == symbols.device
    on_host, _ = MinMax(4).quantize(latent)
    assert torch.equal(counts.cpu(), histogram(on_host, 16))
    assert torch.equal(of_channels.cpu(), channel_histogram(on_host, 16))


def test_counts_what_a_quantizer_returns() -> None:
    latent = torch.randn(4, 6, 20, 21).relu()
    symbols, _ = MinMax(4).quantize(latent)
    np.testing.assert_array_equal(histogram(symbols, 16).numpy(), by_numpy(symbols.numpy(), 16))
