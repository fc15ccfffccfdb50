"""Clipped: levels on the limits, in each channel its own."""

import numpy as np
import pytest
import torch

from splitlearn.numpy_quantizers import ClippedGrid
from splitlearn.quantizers import Clipped, Quantizer
from splitlearn.testing import QuantizerContract


class TestThreeLevels(QuantizerContract):
    def make(self) -> Quantizer:
        return Clipped(-0.4, 1.7, levels=3)


class TestManyLevels(QuantizerContract):
    def make(self) -> Quantizer:
        return Clipped(-5.0, 5.0, levels=256)


class TestUneven(QuantizerContract):
    def make(self) -> Quantizer:
        return Clipped.with_levels(torch.tensor([[-1.0, 0.0, 0.1, 2.0]]), torch.tensor([[-0.9, 0.05, 0.5]]))


def test_ends_lie_on_the_limits_and_levels_between() -> None:
    quantizer = Clipped(-1.0, 2.0, levels=4)
    latent = torch.tensor([[-9.0, -1.0, -0.6, -0.4, 0.4, 0.6, 1.4, 1.6, 2.0, 9.0]])
    symbols, floats = quantizer.quantize(latent)
    assert symbols.tolist() == [[0, 0, 0, 1, 1, 2, 2, 3, 3, 3]]
    assert floats.shape == (1, 0)
    assert quantizer(latent).tolist() == [[-1, -1, -1, 0, 0, 1, 1, 2, 2, 2]]


def per_channel() -> Clipped:
    return Clipped.between(torch.tensor([0.0, -4.0, 3.0]), torch.tensor([1.0, 4.0, 3.0]), levels=5)


def test_channels_are_quantized_as_if_alone() -> None:
    latent = torch.randn(4, 3, 5, 6) * 3
    symbols, floats = per_channel().quantize(latent)
    for channel, (low, high) in enumerate(((0.0, 1.0), (-4.0, 4.0))):
        alone, _ = Clipped(low, high, levels=5).quantize(latent[:, channel])
        assert torch.equal(symbols[:, channel], alone)
    assert not symbols[:, 2].any()  # equal limits: one level
    latent_hat = per_channel().dequantize(symbols, floats)
    assert (latent_hat[:, 2] == 3).all()
    assert torch.equal(per_channel()(latent), latent_hat)


def test_the_grid_is_the_same_in_each_channel() -> None:
    quantizer = per_channel()
    latent = torch.randn(2, 3, 70, 90) * 3  # a channel takes more than one part of the kernel
    symbols, floats = quantizer.quantize(latent)
    for image, its_symbols, its_latent in zip(latent, symbols, quantizer.dequantize(symbols, floats), strict=True):
        found, nothing = quantizer.grid.quantize(image.numpy())
        np.testing.assert_array_equal(found, its_symbols.numpy())
        np.testing.assert_array_equal(quantizer.grid.dequantize(found, nothing), its_latent.numpy())


def test_levels_are_saved_and_loaded() -> None:
    quantizer, twin = per_channel(), Clipped(levels=5, channels=3)
    twin.load_state_dict(quantizer.state_dict())
    latent = torch.randn(2, 3, 8)
    assert torch.equal(twin(latent), quantizer(latent))


def test_other_channels_are_refused() -> None:
    for work in (per_channel().quantize, per_channel().forward):
        with pytest.raises(ValueError, match=r"calibrated for 3 channels, the latent has shape \(1, 4, 2\)"):
            work(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"calibrated for 3 channels, the latent has shape \(4, 2\)"):
        per_channel().grid.quantize(np.zeros((4, 2), np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 1}, "levels"),
        ({"levels": 257}, "levels"),
        ({"levels": 2.0}, "levels"),
        ({"low": 1.0, "high": 0.5}, "low not above high"),
        ({"high": float("inf")}, "must be finite"),
        ({"low": float("nan")}, "must be finite"),
        ({"channels": 0}, "channels"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clipped(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "thresholds", "message"),
    [
        ([[0.0, 1.0]], [[0.5, 0.6]], "do not go with"),
        ([[1.0, 0.0]], [[0.5]], "ascending"),
        ([[0.0, 1.0, 2.0]], [[0.9, 0.8]], "ascending"),
        ([[0.0, float("inf")]], [[0.5]], "finite"),
        ([[0.0, 1.0]], [[float("nan")]], "ascending"),
    ],
)
def test_impossible_levels_are_refused(values: list[list[float]], thresholds: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clipped.with_levels(torch.tensor(values), torch.tensor(thresholds))
    if values[0] == sorted(values[0]):  # a grid looks values up, in whatever order they are
        with pytest.raises(ValueError, match=message):
            ClippedGrid(np.array(thresholds, np.float32), np.array(values, np.float32))
