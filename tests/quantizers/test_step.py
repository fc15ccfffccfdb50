"""Step: its zig-zag, its saturation, its arguments."""

import pytest
import torch

from splitlearn.quantizers import Step


def test_zig_zag_puts_small_magnitudes_first() -> None:
    symbols, floats = Step().quantize(torch.tensor([[0.0, -1.0, 1.0, -2.0, 2.0, -128.0, 127.0]]))
    assert symbols.tolist() == [[0, 1, 2, 3, 4, 255, 254]]
    assert floats.shape == (1, 0)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 255, 256])
def test_every_symbol_stands_for_its_own_integer(levels: int) -> None:
    quantizer = Step(step=0.25, levels=levels)
    symbols = torch.arange(levels, dtype=torch.uint8)[None]
    values = quantizer.dequantize(symbols, torch.empty(1, 0))
    expected = torch.arange(-(levels // 2), (levels - 1) // 2 + 1) * 0.25
    assert torch.equal(values[0].sort().values, expected)
    assert torch.equal(quantizer.quantize(values)[0], symbols)


def test_saturates_in_every_path() -> None:
    quantizer = Step(step=0.5, levels=4)
    latent = torch.tensor([[9.0, -9.0, 3e38, -3e38]])
    expected = torch.tensor([[0.5, -1.0, 0.5, -1.0]])
    assert torch.equal(quantizer.dequantize(*quantizer.quantize(latent)), expected)
    assert torch.equal(quantizer(latent), expected)


def test_saturated_values_keep_their_gradient() -> None:
    latent = torch.tensor([[100.0, -100.0, 0.2]], requires_grad=True)
    Step(levels=2)(latent).sum().backward()
    assert latent.grad is not None
    assert latent.grad.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("step", [0.1, 1.0, 7.3])
def test_error_is_at_most_half_a_step(step: float) -> None:
    latent = torch.randn(4, 100) * 10 * step
    assert (Step(step)(latent) - latent).abs().max() <= step / 2 * 1.0001


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf"), 1e-50, 1e38])
def test_refuses_steps(step: float) -> None:
    with pytest.raises(ValueError, match="step"):
        Step(step)


@pytest.mark.parametrize("levels", [0, 1, 257])
def test_refuses_levels(levels: int) -> None:
    with pytest.raises(ValueError, match="levels"):
        Step(levels=levels)
