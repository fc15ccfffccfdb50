"""MinMax: its error, its extremes, constant and extreme images, and codecs behind it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.codecs import Huffman, RunLength, pack, unpack
from splitlearn.quantizers import MinMax
from splitlearn.testing import PROPERTY

ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)


@PROPERTY
@given(st.lists(ANY_FLOAT, min_size=1, max_size=30), st.integers(2, 8))
def test_error_is_at_most_half_a_step(values: list[float], bits: int) -> None:
    latent = torch.tensor([values], dtype=torch.float32)
    symbols, floats = MinMax(bits).quantize(latent)
    assert floats.tolist() == [[min(values), max(values)]]
    wide = latent.double()
    step = (wide.max() - wide.min()) / (2**bits - 1)
    # Float32 resolves a step no finer than the values themselves, and nothing below its smallest number.
    slack = wide.abs().max() * 2**-22 + step * 2**-14 + 2.0**-140
    error = (MinMax(bits).dequantize(symbols, floats).double() - wide).abs().max()
    assert error <= step / 2 + slack


def test_levels_are_even_and_extremes_exact() -> None:
    latent = torch.tensor([[0.0, 0.9, 2.1, 3.0], [-6.0, -3.6, 0.2, 0.0]])
    symbols, floats = MinMax(2).quantize(latent)
    assert symbols.tolist() == [[0, 1, 2, 3], [0, 1, 3, 3]]
    assert floats.tolist() == [[0.0, 3.0], [-6.0, float(np.float32(0.2))]]
    assert MinMax(2)(latent)[0].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("value", [0.0, -1.7, 1e-45, 3.4e38])
def test_constant_images_are_exact(value: float) -> None:
    latent = torch.full((2, 3, 4), value)
    symbols, _ = MinMax().quantize(latent)
    assert not symbols.any()
    assert torch.equal(MinMax()(latent), latent)


def test_zeros_after_relu_are_symbol_zero_and_stay_zero() -> None:
    latent = torch.randn(2, 8, 8, 8).relu()
    symbols, floats = MinMax(4).quantize(latent)
    assert not symbols[latent == 0].any()
    assert not MinMax(4).dequantize(symbols, floats)[latent == 0].any()


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_latents_survive_the_channel_bit_for_bit(bits: int) -> None:
    quantizer = MinMax(bits)
    latent = torch.randn(3, 4, 9, 9).relu()
    symbols, floats = quantizer.quantize(latent)
    for codec in (RunLength(), Huffman(), Huffman.fit([symbols.numpy()], quantizer.levels)):
        for index in range(len(latent)):
            payload = pack(symbols[index].numpy(), quantizer.levels, codec, floats[index].tolist())
            received, sides = unpack(payload, codec)
            latent_hat = quantizer.dequantize(torch.from_numpy(received)[None], torch.tensor([sides]))
            assert torch.equal(latent_hat[0], quantizer(latent)[index])


@pytest.mark.parametrize("bits", [1, 9])
def test_refuses_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        MinMax(bits)
