"""The bottleneck with residual units: sizes, cost, scale of its latent, and payloads."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import mobilenet_v2, resnet50

from splitlearn.codecs import Huffman
from splitlearn.models import ResidualBottleneck, SplitModel, count_macs, resnet8, split
from splitlearn.quantizers import Step
from tests.networks import SHAPE, digits


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), stride=st.integers(1, 5), depth=st.integers(0, 2))
def test_any_size_is_restored_and_every_feature_is_seen(height: int, width: int, stride: int, depth: int) -> None:
    stride = min(stride, max(height, width))
    unit = ResidualBottleneck((3, height, width), channels=2, width=4, stride=stride, depth=depth).eval()
    features = torch.rand(2, 3, height, width, requires_grad=True)
    latent = unit.encoder(features)
    assert latent.shape == (2, 2, -(-height // stride), -(-width // stride))
    assert unit(features).shape == features.shape
    for layer in unit.encoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    unit.encoder(features).sum().backward()
    assert features.grad is not None
    assert bool((features.grad != 0).all())


def test_a_latent_has_the_gain_as_its_standard_deviation_when_training_starts() -> None:
    torch.manual_seed(0)
    unit = ResidualBottleneck((16, 12, 12), channels=8, width=8, gain=4.0).train()
    latent = unit.encoder(torch.randn(16, 16, 12, 12))
    torch.testing.assert_close(latent.std((0, 2, 3)), torch.full((8,), 4.0), rtol=0.02, atol=0)


def test_features_may_be_negative_or_not_as_training_shows() -> None:
    torch.manual_seed(0)
    unit = ResidualBottleneck((4, 6, 6), channels=4, width=8)
    assert unit(torch.randn(4, 4, 6, 6)).min() < 0
    last: Any = unit.decoder.get_submodule("10")
    nn.init.zeros_(last.weight)
    assert unit(torch.randn(4, 4, 6, 6)).min() == 0


@pytest.mark.parametrize(
    ("network", "shape", "width", "share"),
    [(resnet50, (512, 28, 28), 64, 0.02), (mobilenet_v2, (32, 28, 28), 64, 0.05)],
)
def test_each_half_takes_a_small_share_of_the_networks_arithmetic(
    network: type[nn.Module], shape: tuple[int, ...], width: int, share: float
) -> None:
    with torch.device("meta"):
        whole = count_macs(network().eval(), torch.empty(1, 3, 224, 224))
        unit, features = ResidualBottleneck(shape, width=width).eval(), torch.empty(1, *shape)
        halves = count_macs(unit.encoder, features), count_macs(unit.decoder, unit.encoder(features))
    assert 0 < max(halves) < share * whole


def test_payloads_give_the_latents_of_the_differentiable_pass() -> None:
    torch.manual_seed(0)
    unit = partial(ResidualBottleneck, channels=6, width=8)
    model = SplitModel(split(resnet8(), "layer2", SHAPE), Step(0.5), Huffman(), unit).eval()
    images = digits(4)
    latents = model.coder.quantized(model.coder.encoded(model.features(images)))
    assert torch.equal(model.coder.latents_hat(model.compress(images))[0], latents[0])
    assert torch.equal(model.decompress(model.compress(images)), model(images))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": -1}])
def test_impossible_units_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width must be at least 1 and depth at least 0"):
        ResidualBottleneck((4, 6, 6), **wrong)


def test_a_stride_larger_than_the_map_is_refused() -> None:
    with pytest.raises(ValueError, match="a stride of 8 is larger than the map of 5×7 at this cut: take 7 or less"):
        ResidualBottleneck((4, 5, 7), stride=8)
