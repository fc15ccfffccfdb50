"""The transposed depthwise convolution against torch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from splitlearn.models.bottlenecks.transposed import DepthwiseTransposed

CASES = [(3, 2, 1, (1, 1)), (3, 1, 1, (0, 0)), (3, 4, 1, (3, 2)), (4, 4, 0, (0, 0)), (3, 2, 1, (0, 1))]


def plain(layer: DepthwiseTransposed, kernel: int, stride: int, padding: int, extra: tuple[int, int]) -> nn.Module:
    """Return torch's layer with the same weights."""
    made = nn.ConvTranspose2d(6, 6, kernel, stride, padding, extra, groups=6)
    made.load_state_dict(layer.state_dict())
    return made


def trained(layer: nn.Module, x: Tensor) -> list[Tensor | None]:
    """Return the output and all gradients of a sum over it, with different weights everywhere."""
    x = x.clone().requires_grad_()
    made = layer(x)
    (made * torch.linspace(-1, 1, made.numel()).view_as(made)).sum().backward()
    return [made, x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra"), CASES)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_torch(
    kernel: int, stride: int, padding: int, extra: tuple[int, int], form: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = DepthwiseTransposed(6, kernel, stride, padding, extra)
    x = torch.randn(3, 6, 5, 4).contiguous(memory_format=form)
    torchs = plain(layer, kernel, stride, padding, extra)
    for ours, theirs in zip(trained(layer, x), trained(torchs, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_trained_layer_infers_what_it_trained() -> None:
    torch.manual_seed(0)
    layer, x = DepthwiseTransposed(4, 3, 2, 1, (1, 1)), torch.randn(2, 4, 3, 3)
    trained = layer(x)
    torch.testing.assert_close(layer.eval()(x), trained)


def test_it_exports() -> None:
    layer, x = DepthwiseTransposed(4, 3, 2, 1, (1, 1)), torch.randn(2, 4, 3, 3)
    program = torch.export.export(copy.deepcopy(layer), (x,))
    torch.testing.assert_close(program.module()(x), layer(x))


def test_half_precision_is_left_to_torch() -> None:
    layer, x = DepthwiseTransposed(4, 3, 2, 1, (1, 1)), torch.randn(2, 4, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x.bfloat16()).float().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
