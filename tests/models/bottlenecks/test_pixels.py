"""The encoder from pixels: sizes of any image and any cut, cost, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import mobilenet_v2

from splitlearn.models import PixelEncoder, count_macs, split
from splitlearn.models.modes import evaluating


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    patch=st.sampled_from([1, 2, 4]),
    times=st.integers(1, 3),
)
def test_features_of_any_size_come_from_images_of_any_size(
    height: int, width: int, rows: int, columns: int, patch: int, times: int
) -> None:
    stride = patch * times
    if stride > max(height, width):
        stride = patch
    small: dict[str, Any] = {"channels": 2, "width": 4, "depth": 1, "decoder_width": 4, "decoder_depth": 1}
    unit = PixelEncoder((3, height, width), (5, rows, columns), stride=stride, patch=patch, **small).eval()
    latent = unit.encoder(torch.rand(2, 3, height, width))
    assert latent.shape == (2, 2, -(-height // stride), -(-width // stride))
    assert unit.decoder(latent).shape == (2, 5, rows, columns)


@pytest.mark.parametrize(("stride", "patch"), [(4, 4), (8, 4), (12, 4), (16, 4), (10, 2)])
def test_every_pixel_is_seen(stride: int, patch: int) -> None:
    unit = PixelEncoder((3, 19, 21), (4, 5, 6), channels=2, width=4, stride=stride, patch=patch).eval()
    images = torch.rand(1, 3, 19, 21, requires_grad=True)
    for parameter in unit.encoder.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    unit.encoder(images).sum().backward()
    assert images.grad is not None
    assert bool((images.grad != 0).all())


def test_the_device_computes_less_than_a_tenth_of_the_network() -> None:
    network, image = mobilenet_v2(), torch.zeros(1, 3, 224, 224)
    net = split(network, "features.6", (3, 224, 224))
    unit = PixelEncoder((3, 224, 224), net.shapes[0])
    with evaluating(unit), evaluating(network):
        encoder, whole = count_macs(unit.encoder, image), count_macs(network, image)
    assert encoder == 27_095_040
    assert encoder < 0.1 * whole


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": 12}, "stride must be a multiple of patch, got stride=12, patch=8"),
        ({"patch": 0}, "stride must be a multiple of patch"),
        ({"stride": 64}, "a stride of 64 is larger than the map of 32×32"),
        ({"decoder_width": 0}, "width must be at least 1"),
        ({"channels": 0}, "channels and stride must be at least 1"),
    ],
)
def test_impossible_encoders_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelEncoder((3, 32, 32), (8, 4, 4), **wrong)
