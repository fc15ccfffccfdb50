"""Affine: the integers of torch's own INT8 quantization."""

import pytest
import torch

from splitlearn.quantizers import Affine


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("scale", "zero_point"), [(0.05, 0), (0.013, 128), (1.7, 255)])
def test_symbols_are_those_of_torch(scale: float, zero_point: int) -> None:
    torch.manual_seed(0)
    latent = torch.cat([torch.randn(20_000) * scale * 100, (torch.randint(-300, 300, (2000,)) + 0.5) * scale])
    theirs = torch.quantize_per_tensor(latent, scale, zero_point, torch.quint8)
    quantizer = Affine(scale, zero_point)
    symbols, floats = quantizer.quantize(latent[None])
    assert torch.equal(symbols[0], theirs.int_repr())
    assert torch.equal(quantizer.dequantize(symbols, floats)[0], theirs.dequantize())


def test_calibration_reaches_the_extremes_and_keeps_zero() -> None:
    latent = torch.tensor([[-1.0, 0.0, 0.3, 4.1]])
    quantizer = Affine.calibrated(latent, levels=52)
    restored = quantizer(latent)
    assert restored[0, 1] == 0
    torch.testing.assert_close(restored, latent, atol=0.06, rtol=0)


def test_calibration_refuses_zeros_and_nan() -> None:
    with pytest.raises(ValueError, match="only zeros"):
        Affine.calibrated(torch.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        Affine.calibrated(torch.tensor([float("nan")]))


@pytest.mark.parametrize(
    ("scale", "zero_point", "levels", "name"),
    [(0.0, 0, 256, "scale"), (1.0, 256, 256, "zero_point"), (1.0, 0, 1, "levels")],
)
def test_refuses_arguments(scale: float, zero_point: int, levels: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Affine(scale, zero_point, levels)
