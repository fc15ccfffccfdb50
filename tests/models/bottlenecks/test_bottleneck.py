import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitlearn.models import DepthwiseSeparable, Identity, NormalizedSeparable, count_macs


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), stride=st.integers(1, 8), channels=st.integers(1, 5))
def test_decoder_restores_any_size_at_any_stride(height: int, width: int, stride: int, channels: int) -> None:
    stride = min(stride, max(height, width))
    unit = DepthwiseSeparable((6, height, width), channels, stride)
    features = torch.rand(2, 6, height, width)
    latent = unit.encoder(features)
    assert latent.shape == (2, channels, -(-height // stride), -(-width // stride))
    assert unit(features).shape == features.shape


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), stride=st.integers(1, 8))
def test_normalized_unit_restores_any_size_and_sees_every_feature(height: int, width: int, stride: int) -> None:
    stride = min(stride, max(height, width))
    unit = NormalizedSeparable((3, height, width), channels=2, stride=stride).eval()
    for layer in unit.encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 0.1)
    features = torch.ones(2, 3, height, width, requires_grad=True)
    latent = unit.encoder(features)
    assert latent.shape == (2, 2, -(-height // stride), -(-width // stride))
    assert unit(features).shape == features.shape
    latent.sum().backward()
    assert features.grad is not None
    assert bool((features.grad != 0).all())


@pytest.mark.parametrize(("stride", "size"), [(2, 4), (4, 2), (6, 2)])
def test_seven_by_seven(stride: int, size: int) -> None:
    unit = DepthwiseSeparable((2048, 7, 7), channels=32, stride=stride)
    latent = unit.encoder(torch.zeros(1, 2048, 7, 7))
    assert latent.shape[-2:] == (size, size)
    assert unit.decoder(latent).shape == (1, 2048, 7, 7)


def test_parameters_and_macs_are_those_of_two_separable_convolutions() -> None:
    unit = DepthwiseSeparable((32, 16, 16), channels=8, stride=2)
    depthwise, pointwise = 32 * 9 + 32, 32 * 8
    assert sum(p.numel() for p in unit.parameters()) == 2 * depthwise + 2 * pointwise + 8 + 32
    assert count_macs(unit.encoder, torch.zeros(1, 32, 16, 16)) == 8 * 8 * (32 * 9 + 32 * 8)


def test_the_papers_largest_unit_is_as_small_as_it_says() -> None:
    """Table III of Datta et al. 2022: at most 0.28 M parameters and 0.06 G MAC in ResNet-50, C_r = 128."""
    unit = DepthwiseSeparable((1024, 14, 14), channels=128, stride=2)
    assert sum(p.numel() for p in unit.parameters()) <= 0.285e6
    assert count_macs(unit, torch.zeros(1, 1024, 14, 14)) <= 0.06e9


@pytest.mark.parametrize("shape", [(197, 192), (64,)])
def test_features_that_are_no_maps_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs features \(C, H, W\)"):
        DepthwiseSeparable(shape)
    assert Identity(shape).encoder(torch.ones(1, *shape)).shape == (1, *shape)


@pytest.mark.parametrize(("channels", "stride"), [(0, 1), (4, 0)])
def test_sizes_must_be_positive(channels: int, stride: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DepthwiseSeparable((4, 4, 4), channels, stride)


@pytest.mark.parametrize("unit", [DepthwiseSeparable, NormalizedSeparable])
def test_a_stride_larger_than_the_map_is_refused(unit: type[DepthwiseSeparable | NormalizedSeparable]) -> None:
    with pytest.raises(ValueError, match="a stride of 8 is larger than the map of 5×7 at this cut: take 7 or less"):
        unit((4, 5, 7), channels=2, stride=8)
