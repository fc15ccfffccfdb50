"""Gains for each channel and rate: what they scale, what lies between, and the twin in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splitlearn.numpy_quantizers import GainedGrid
from splitlearn.quantizers import GainedStep, Step


def gained() -> GainedStep:
    quantizer = GainedStep(channels=3, rates=2, levels=32)
    with torch.no_grad():
        quantizer.gains.copy_(torch.tensor([[1.0, 0.5, 2.0], [4.0, 8.0, 0.3]]))
    return quantizer


def test_gains_of_one_are_a_step_of_one() -> None:
    latent = 9 * torch.randn(2, 3, 5, 5)
    mine, theirs = GainedStep(3).quantize(latent), Step(1.0).quantize(latent)
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(GainedStep(3)(latent), Step(1.0)(latent))


@pytest.mark.parametrize("rate", [0, 1])
def test_each_channel_has_the_step_of_its_gain(rate: int) -> None:
    quantizer, latent = gained(), torch.randn(4, 3, 6, 6)
    quantizer.rate = rate
    symbols, floats = quantizer.quantize(latent)
    for channel, gain in enumerate(quantizer.gain.tolist()):
        part = latent[:, channel] * torch.tensor(gain)
        assert torch.equal(symbols[:, channel], Step(1.0, 32).quantize(part)[0])
    restored = quantizer.dequantize(symbols, floats)
    assert torch.equal(quantizer(latent), restored)
    assert quantizer.grid is not None
    for image in range(4):
        own, none = quantizer.grid.quantize(latent[image].numpy())
        np.testing.assert_array_equal(own, symbols[image].numpy())
        np.testing.assert_array_equal(quantizer.grid.dequantize(own, none), restored[image].numpy())


def test_between_two_rates_gains_are_geometric_means_in_half_precision() -> None:
    middle = gained().at(0.5)
    expected = torch.tensor([2.0, 2.0, 0.6**0.5])
    torch.testing.assert_close(middle.gain, expected, rtol=1e-3, atol=0)
    assert torch.equal(middle.gain, middle.gain.half().float())
    assert not middle.gain.requires_grad
    assert torch.equal(gained().at(1).gain, gained().gains[1].half().float())
    with pytest.raises(ValueError, match=r"rates lie in 0…1, got 1\.5"):
        gained().at(1.5)


def test_the_gradient_reaches_the_gains() -> None:
    quantizer = gained()
    latent = torch.randn(2, 3, 4, 4, requires_grad=True)
    total = quantizer(latent).square().sum()
    [of_latent, of_gains] = torch.autograd.grad(total, [latent, quantizer.gains])
    torch.testing.assert_close(of_latent, 2 * quantizer(latent).detach())
    assert bool(of_gains[0].any())
    assert not of_gains[1].any()


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="gains for 3 channels, the latent has 4"):
        gained()(torch.randn(1, 4, 2, 2))
    with pytest.raises(ValueError, match="gains for 3 channels, the latent has shape"):
        GainedGrid(np.ones(3, np.float32)).quantize(np.ones((4, 2), np.float32))
    arrays: list[Any] = [
        np.ones(2),
        np.zeros(2, np.float32),
        np.full(2, np.inf, np.float32),
        np.ones((1, 2), np.float32),
    ]
    for wrong in arrays:
        with pytest.raises(ValueError, match="gain must be"):
            GainedGrid(wrong)
    with pytest.raises(ValueError, match="channels and rates must be at least 1"):
        GainedStep(0)
