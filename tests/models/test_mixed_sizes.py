"""Detectors take images of any sizes: what they find does not depend on payloads or on neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitlearn.codecs import Huffman, RunLength
from splitlearn.models import (
    DepthwiseSeparable,
    ImageFile,
    InputModel,
    Pixels,
    RedesignedLayer1,
    SplitModel,
    faster_rcnn,
    mask_rcnn,
    replaced,
    split,
)
from splitlearn.quantizers import MinMax, Quantizer, Step
from tests.networks import halves, network

AT = "backbone.body.layer1"
Found = list[dict[str, Tensor]]


class Lossless(nn.Module):
    """Stands where a decoder does, and rounds as a quantizer has: an unsplit student that sees the same latent."""

    def __init__(self, quantizer: Quantizer, decoder: nn.Module) -> None:
        super().__init__()
        self.quantizer, self.decoder = quantizer, decoder

    def forward(self, latent: Tensor) -> Tensor:
        restored: Tensor = self.decoder(self.quantizer(latent))
        return restored


@cache
def student(masks: bool = True) -> nn.Module:
    torch.manual_seed(0)
    build = mask_rcnn if masks else faster_rcnn
    model = build("resnet18", 3, min_size=64, max_size=96, pyramid=16, box_width=32, proposals=20)
    heads: Any = model.get_submodule("roi_heads")
    heads.score_thresh, heads.detections_per_img = 0.0, 4
    return replaced(model, AT, RedesignedLayer1(64, 3, 64)).eval()


def images() -> list[Tensor]:
    """Wide, high and square ones; the first and the last are of one size."""
    sizes = [(40, 60), (80, 50), (64, 64), (17, 90), (40, 60)]
    return [torch.rand(3, *size) for size in sizes]


def assert_same(found: Found, expected: Found) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert len(one["boxes"]) > 0
        assert all(torch.equal(one[key], other[key]) for key in other)


@torch.inference_mode()
def one_by_one(model: nn.Module, pictures: Sequence[Tensor]) -> Found:
    return [found for image in pictures for found in model([image])]


@pytest.mark.parametrize(
    ("masks", "quantizer", "codec"),
    [(True, MinMax(8), RunLength()), pytest.param(False, Step(0.25), Huffman(), marks=pytest.mark.slow)],
)
def test_payloads_give_the_boxes_and_masks_of_the_unsplit_student(
    masks: bool, quantizer: Quantizer, codec: Any
) -> None:
    whole = student(masks)
    model = SplitModel(split(whole, f"{AT}.encoder", (3, 48, 64)), quantizer, codec).eval()
    pictures = images()
    payloads = model.compress(pictures)
    found = model.decompress(payloads)
    if masks:
        assert [one["masks"].shape[-2:] for one in found] == [image.shape[-2:] for image in pictures]
    layer: Any = whole.get_submodule(AT)
    decoder = layer.decoder
    try:
        layer.decoder = Lossless(quantizer, decoder)
        expected = one_by_one(whole, pictures)
    finally:
        layer.decoder = decoder
    assert_same(found, expected)
    assert payloads[:1] == model.compress(pictures[:1])  # neighbours do not matter
    assert_same(model.decompress(payloads[::-1]), expected[::-1])


def test_payloads_hold_the_latent_of_an_image_of_its_own_size() -> None:
    model = SplitModel(split(student(False), f"{AT}.encoder", (3, 48, 64)), MinMax(8), RunLength()).eval()
    latent, sizes = model.coder.latents_hat(model.compress([torch.rand(3, 40, 60)]))
    assert latent.shape == (1, 3, 64 // 4 + 4, 96 // 4 + 4)
    assert sizes.tolist() == [[40, 60, 64, 96, 64, 96]]


def test_a_batch_of_one_size_goes_the_same_way() -> None:
    model = SplitModel(split(student(False), f"{AT}.encoder", (3, 48, 64)), MinMax(8), RunLength()).eval()
    batch = torch.rand(2, 3, 48, 64)
    assert model.compress(batch) == model.compress(list(batch))


@pytest.mark.parametrize("codec", [Pixels(), ImageFile("PNG")])
def test_the_image_itself_as_payload(codec: Any) -> None:
    pictures = [(image * 255).round() / 255 for image in images()]
    model = InputModel(student(False), codec).eval()
    assert_same(model.decompress(model.compress(pictures)), one_by_one(student(False), pictures))


def test_jpeg_files_are_of_each_images_size() -> None:
    model = InputModel(student(False), ImageFile("JPEG", 95)).eval()
    payloads = model.compress(images())
    assert [model.codec.decode(p).shape[:2] for p in payloads] == [image.shape[-2:] for image in images()]
    assert len(model.decompress(payloads)) == len(payloads)


def test_networks_of_one_size_refuse_others() -> None:
    pictures = [torch.rand(3, 32, 32), torch.rand(3, 32, 48)]
    for model in (InputModel(network()), SplitModel(halves("layer2"), MinMax(8), RunLength())):
        with pytest.raises(ValueError, match=r"takes images of one size|are of images of different sizes"):
            model.decompress(model.compress(pictures))
        assert len(model.decompress(model.compress([pictures[0]] * 2))) == 2


def test_a_bottleneck_of_one_size_says_so() -> None:
    net = split(student(False), f"{AT}.encoder", (3, 48, 64))
    model = SplitModel(net, MinMax(8), RunLength(), lambda shape: DepthwiseSeparable(shape, 2, 1)).eval()
    with pytest.raises(ValueError, match="this bottleneck takes features"):
        model.compress([torch.rand(3, 80, 50)])


def test_no_payloads_and_damaged_ones_are_refused() -> None:
    model = SplitModel(split(student(False), f"{AT}.encoder", (3, 48, 64)), MinMax(8), RunLength()).eval()
    with pytest.raises(ValueError, match="there are no payloads"):
        model.decompress([])
    good, other = model.compress(images()[:2])
    with pytest.raises(ValueError, match="payload"):
        model.decompress([good, other[:-7]])
