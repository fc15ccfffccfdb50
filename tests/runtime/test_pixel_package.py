"""A package of an encoder from pixels: the device holds nothing of the network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from splitlearn.codecs import CodecError, Huffman
from splitlearn.models import GainModel, OperatingPoint, PixelEncoder, PixelModel, VariableRateModel, resnet8, split
from splitlearn.quantizers import Step
from splitlearn.runtime import Device, OnnxEdge, write_package
from splitlearn.runtime.forms import TopClasses
from tests.networks import SHAPE, digits
from tests.runtime.conftest import NORMALIZE, WEIGHTS, pixels

SMALL = partial(PixelEncoder, channels=6, width=8, depth=1, stride=8, patch=4, decoder_width=8, decoder_depth=1)


def answered(edge: OnnxEdge, payload: bytes) -> int:
    [answer] = edge.answer([payload])
    assert not isinstance(answer, CodecError)
    return int(answer["classes"][0])


@pytest.mark.slow
def test_the_device_holds_the_encoder_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    model = PixelModel(net, Step(0.25), Huffman(), SMALL, NORMALIZE).eval()
    found = write_package(model, tmp_path / "package", pixels(8), TopClasses(3))
    assert (found.device, found.edge, found.equal_answers) == ("onnx", "onnx", 1.0)
    assert found.equal_symbols is not None
    assert found.equal_symbols > 0.999
    device, edge = Device(tmp_path / "package"), OnnxEdge(tmp_path / "package")
    for image, picture in zip(pixels(4), digits(4), strict=True):
        payload = device.compress(image)
        assert isinstance(payload, bytes)
        assert answered(edge, payload) == int(model.decompress([payload]).argmax())
        assert len(payload) == len(model.compress([picture])[0])
    encoder = sum(p.numel() for p in model.coder.bottlenecks[0].get_submodule("encoder").parameters())
    assert (tmp_path / "package/device.onnx").stat().st_size < 4 * encoder + 30_000


@pytest.mark.slow
def test_a_bank_of_them_is_packaged_without_a_normalization_too(tmp_path: Path) -> None:
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    models: list[PixelModel] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(PixelModel(net if not models else models[0].net, Step(0.25), Huffman(), SMALL).eval())
    bank = VariableRateModel.of(models, [OperatingPoint(0.5, 10.0), OperatingPoint(0.6, 20.0)]).eval()
    found = write_package(bank, tmp_path / "package", pixels(4), TopClasses(3))
    assert (found.device, found.edge, found.equal_answers) == ("onnx", "onnx", 1.0)
    device, edge = Device(tmp_path / "package"), OnnxEdge(tmp_path / "package")
    for rate in (0, 1):
        payload = device.compress(pixels(1)[0], rate)
        assert isinstance(payload, bytes)
        assert answered(edge, payload) == int(bank.decompress([payload]).argmax())


@pytest.mark.slow
def test_rates_that_were_not_measured_rank_as_they_were_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    model = GainModel(PixelModel(net, Step(0.25), Huffman(), SMALL, NORMALIZE), [4.0, 1.0]).eval()
    write_package(model, tmp_path / "package", pixels(4), TopClasses(3))
    device, image = Device(tmp_path / "package"), pixels(1)[0]
    low, high = (device.compress(image, rate) for rate in (0, 1))
    assert isinstance(low, bytes)
    assert isinstance(high, bytes)
    assert len(low) < len(high)
    assert device.compress(image) == device.compress(image, budget=len(high)) == high
    assert device.compress(image, budget=len(high) - 1) == low
