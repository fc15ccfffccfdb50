"""Payloads of detectors: sizes of images and features must go with each other."""

from __future__ import annotations

import struct

import pytest
import torch

from splitlearn.codecs import CodecError, Huffman
from splitlearn.codecs.container import join_parts, split_parts
from tests.models.test_receive import detector, forged, lone, refuse_decoding

SIZES = (40, 60, 64, 96, 64, 96)  # original, resized, padded


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        *[(value, 60, *SIZES[2:]) for value in (-1, 0, -(2**31), 2**31 - 1, 41, 400)],
        *[(*SIZES[:2], value, *SIZES[3:]) for value in (-1, 0, 63, 65, 2**31 - 1)],
        *[(*SIZES[:4], value, SIZES[5]) for value in (-64, 0, 32, 96, 2**31 - 1)],
        (60, 40, *SIZES[2:]),
        (60, 40, 96, 64, 96, 64),
        (-40, -60, *SIZES[2:]),
        (40_000, 60_000, *SIZES[2:]),
    ],
)
def test_image_sizes_that_contradict_each_other_are_refused(
    masks: bool, row: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = detector(masks)
    (payload,) = model.compress([torch.rand(3, 40, 60)])
    refuse_decoding(monkeypatch, model)
    with pytest.raises(CodecError):
        model.decompress([forged(model, payload, {}, {"code": struct.pack("<6i", *row)})])


@pytest.mark.parametrize("shape", [(64, 16, 25), (64, 32, 24), (64, 1, 1), (64, 2**12, 2**12), (64, 24, 16)])
def test_a_latent_must_go_with_the_image_sizes(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(False)
    (payload,) = model.compress([torch.rand(3, 40, 60)])
    refuse_decoding(monkeypatch, model)
    with pytest.raises(CodecError, match=r"the payload holds a tensor of shape .*, and \(64, 16, 24\) crosses"):
        model.decompress([forged(model, payload, {"shape": shape, "code": lone(Huffman(), 16)}, {})])


def test_images_of_any_size_go_through_up_to_a_bound() -> None:
    model = detector(True)
    images = [torch.rand(3, *size) for size in ((40, 60), (300, 20), (17, 90), (63, 65))]
    found = model.decompress(model.compress(images))
    assert [one["masks"].shape[-2:] for one in found] == [image.shape[-2:] for image in images]
    (payload,) = model.compress(images[:1])
    model = model.coded_by(model.coder.quantizers, model.coder.codecs)
    model.net.max_pixels = 2399
    with pytest.raises(CodecError, match="an image of 40×60 pixels is larger than 2,399 in all: set max_pixels higher"):
        model.decompress([payload])
    with pytest.raises(ValueError, match="an image of 40×60 pixels is larger than 2,399 in all: set max_pixels higher"):
        model.compress(images[:1])


def test_sizes_alone_may_not_be_exchanged() -> None:
    model = detector(False)
    one, other = (split_parts(p, 2) for p in model.compress([torch.rand(3, 40, 60), torch.rand(3, 20, 30)]))
    with pytest.raises(CodecError):
        model.decompress([join_parts([one[0], other[1]])])
