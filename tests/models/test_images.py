"""What is no image is refused in one sentence, by every model alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitlearn.codecs import Huffman
from splitlearn.models import (
    CompressionModel,
    EarlyExitModel,
    InputModel,
    OperatingPoint,
    SplitModel,
    VariableRateModel,
    resnet8,
    split,
)
from splitlearn.quantizers import Step

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def model_of(kind: str) -> CompressionModel:
    network = resnet8()
    if kind == "input":
        return InputModel(network).eval()
    net = split(network, "layer2", (3, 32, 32))
    if kind == "exit":
        return EarlyExitModel(net, Step(0.1), Huffman(), exits=["layer1"]).eval()
    model = SplitModel(net, Step(0.1), Huffman()).eval()
    return model if kind == "split" else VariableRateModel.of([model], [OperatingPoint(0.5, 1.0)]).eval()


@pytest.mark.parametrize("kind", ["split", "bank", "exit", "input"])
@pytest.mark.parametrize(
    ("images", "said"),
    [
        ((IMAGES * 255).to(torch.uint8), "not torch.uint8: give pixels of 0…255 as images / 255"),
        (IMAGES * 255, "divide pixels of 0…255 by 255"),
        (IMAGES * 4 - 2, "leave normalization to the model"),
        (IMAGES - 0.485, "leave normalization to the model"),
        (IMAGES / 0 * 0, "images hold NaN or infinity"),
        (IMAGES[0], r"give a single image as image\[None\]"),
        (IMAGES.numpy(), "not a ndarray object"),
        (IMAGES[..., :0], "images have no pixels"),
        (IMAGES.to("meta"), "hold no values: move them to a real device"),
    ],
)
def test_what_is_no_image_is_refused(kind: str, images: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model_of(kind).compress(images)


@pytest.mark.parametrize("kind", ["split", "bank", "exit"])
def test_other_channels_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"this network takes images \(B, 3, H, W\), not \(2, 1, 32, 32\)"):
        model_of(kind).compress(IMAGES[:, :1])


@pytest.mark.parametrize("kind", ["split", "bank", "exit", "input"])
def test_no_images_make_no_payloads(kind: str) -> None:
    model = model_of(kind)
    assert model.compress([]) == model.compress(IMAGES[:0]) == []
    assert model.compress(IMAGES.double()) == model.compress(list(IMAGES)) == model.compress(IMAGES)


def test_an_exit_says_which_size_it_takes() -> None:
    with pytest.raises(ValueError, match=r"the exit at 'layer1' takes features .* send images of shape \(3, 32, 32\)"):
        model_of("exit").compress(torch.rand(1, 3, 48, 48))
    with pytest.raises(ValueError, match="the exits have 0 classes"):
        EarlyExitModel(split(resnet8(), "layer2", (3, 32, 32)), Step(), Huffman(), num_classes=0)


@pytest.mark.parametrize("kind", ["split", "bank"])
def test_a_model_without_values_compresses_nothing(kind: str) -> None:
    with pytest.raises(ValueError, match=r"holds? no values: move"):
        model_of(kind).to("meta").compress(IMAGES)
