"""INT8 of trained networks: the same answers, and the wire carries the network's own integers."""

from __future__ import annotations

import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splitlearn.codecs import RANS, Codec, CompressedSparseRow, ContextRANS, Huffman, Raw, unpack
from splitlearn.models import (
    EarlyExitModel,
    InputModel,
    Int8Error,
    NormalizedSeparable,
    SplitModel,
    mobilenet_v2_cifar,
    resnet8,
    resnet32,
    split,
    to_int8,
)
from splitlearn.quantizers import Affine, MinMax
from tests.codecs.test_real_activations import cifar_images
from tests.networks import SHAPE, carra, digits

ROOT = Path(__file__).parents[3]


@cache
def trained(at: str = "layer2", exits: tuple[str, ...] | None = ("layer1", "layer2")) -> EarlyExitModel:
    """The shipped network for digits, with exits of small random weights."""
    torch.manual_seed(0)
    net = split(resnet8(weights=ROOT / "checkpoints/resnet8_digits.safetensors"), at, SHAPE)
    return EarlyExitModel(net, MinMax(8), Huffman(), None if exits is None else list(exits), threshold=1.0).eval()


def own_integers(model: SplitModel, images: Tensor) -> Tensor:
    """What the last quantized operation of the head has computed, before it is turned into floats."""
    last = list(model.steps)[-1] if isinstance(model, EarlyExitModel) else model.net.head
    found: list[Tensor] = []

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and result.is_quantized:
                found.append(result)
            return result

    tensors: tuple[Tensor, ...] = (images if model.normalize is None else model.normalize(images),)
    for step in list(model.steps)[:-1] if isinstance(model, EarlyExitModel) else []:
        tensors = step(*tensors)
    assert isinstance(last, torch.fx.GraphModule)
    Watch(last).run(*tensors)
    (affine,) = model.coder.quantizers
    assert isinstance(affine, Affine)
    assert found[-1].q_scale() == affine.scale
    assert found[-1].q_zero_point() == affine.zero_point
    return found[-1].int_repr()


CODECS: list[Codec] = [Raw(), Huffman(), CompressedSparseRow(), RANS(), ContextRANS()]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_decoded_symbols_are_the_networks_own_integers(codec: Codec) -> None:
    model = to_int8(trained(), [digits(40)]).model
    images = digits(6)
    integers = own_integers(model, images)
    assert torch.equal(model.symbols(images)[0], integers)
    codec = codec.fitted([s.numpy() for s in model.symbols(digits(40))[0]], 256)
    coded = model.coded_by(model.coder.quantizers, [codec])
    payloads = coded.compress(images)
    for payload, own in zip(payloads, integers, strict=True):
        assert np.array_equal(unpack(payload, codec, coded.coder.context)[0], own.numpy())
    assert torch.equal(coded.decompress(payloads), coded(images))
    if isinstance(codec, Huffman):
        assert coded.table_bytes == 256
        assert sum(map(len, payloads)) < 0.8 * integers.numel()


@pytest.mark.parametrize(
    ("at", "exits"), [("layer2", ("layer1", "layer2")), ("layer1.0", None), ("layer2.0.bn2", ("layer1",))]
)
def test_int8_answers_as_the_trained_network_does(at: str, exits: tuple[str, ...] | None) -> None:
    model, images = trained(at, exits), digits(64)
    quantized = to_int8(model, [images[:32], images[32:]])
    assert quantized.layers == 8 + len(model.exits)
    assert quantized.float_layers == 0
    before, after = model.run(images), quantized.model.run(images)
    for mine, theirs in zip((*before.exits, before.prediction), (*after.exits, after.prediction), strict=True):
        assert (mine.argmax(1) == theirs.argmax(1)).float().mean() > 0.9
    assert torch.equal(model.run(images).prediction, before.prediction)  # it was left as it was
    assert next(model.parameters()).requires_grad


def test_thresholds_and_copies_still_work() -> None:
    model = to_int8(trained(), [digits(32)]).model
    model.threshold = 0.0
    assert model.compress(digits(3)) == [b""] * 3
    again = copy.deepcopy(model)
    again.threshold = 1.0
    assert torch.equal(again(digits(3)), again.decompress(again.compress(digits(3))))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_frozen_model_with_a_bottleneck(stride: int) -> None:
    net = split(resnet8(weights=ROOT / "checkpoints/resnet8_digits.safetensors"), "layer1", SHAPE)
    unit = partial(NormalizedSeparable, channels=4, stride=stride)
    model = SplitModel(net, MinMax(8), Huffman(), unit).eval()
    quantized = to_int8(model, [digits(32)])
    assert (quantized.layers, quantized.float_layers) == (8 + 4, 0)  # two in the encoder, two in the decoder
    assert torch.equal(own_latents(quantized.model), quantized.model.run(digits(4)).latents[0])
    assert torch.equal(quantized.model.decompress(quantized.model.compress(digits(4))), quantized.model(digits(4)))


def own_latents(model: SplitModel) -> Tensor:
    return model.coder.latents_hat(model.compress(digits(4)))[0]


@pytest.mark.slow
def test_mobilenet_is_quantized_whole() -> None:
    network = mobilenet_v2_cifar()
    net = split(network, network.exits[5], SHAPE)
    quantized = to_int8(EarlyExitModel(net, MinMax(8), Huffman(), threshold=1.0), [digits(8)])
    assert (quantized.layers, quantized.float_layers) == (53 + 1, 0)
    assert torch.equal(quantized.model.symbols(digits(2))[0], own_integers(quantized.model, digits(2)))


def test_a_diverged_network_is_told() -> None:
    model = trained()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(Int8Error, match="computes NaN or infinity: its training diverged"):
        to_int8(model, [digits(2)])


def test_no_images_no_scale() -> None:
    with pytest.raises(Int8Error, match="no images to calibrate"):
        to_int8(trained(), [])


def test_a_machine_without_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitlearn.models.pipelines import int8

    monkeypatch.setattr(int8, "BACKENDS", ("of another machine",))
    with pytest.raises(Int8Error, match=r"no INT8 backend of another machine \(but .*qnnpack.*\): quantize on an x86"):
        to_int8(trained(), [digits(2)])


def test_nothing_to_quantize_is_told() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Softmax(1)
            self.second = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(images)).mean((2, 3))
            return out

    model = SplitModel(split(Plain(), "first", SHAPE), MinMax(8), Huffman())
    with pytest.raises(Int8Error, match="nothing in the head of Plain could be quantized"):
        to_int8(model, [digits(2)])


@pytest.mark.slow
def test_resnet32_hardly_changes_its_mind_on_photographs(shared_data: Path) -> None:
    images = cifar_images(shared_data / "cifar10_jpeg_q75.tar.xz")
    net = split(resnet32(weights=ROOT / "checkpoints/resnet32_cifar10_jpeg.safetensors"), "layer1.2", SHAPE)
    model = EarlyExitModel(net, MinMax(8), Huffman(), threshold=1.0).eval()
    quantized = to_int8(model, torch.chunk(images[:256], 4)).model
    same = [
        (model.run(batch).prediction.argmax(1) == quantized.run(batch).prediction.argmax(1)).float().mean()
        for batch in torch.chunk(images[256:], 6)
    ]
    assert torch.stack(same).mean() > 0.97


class Branching(nn.Module):
    """Asks for a value, which no trace has."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3)) if features.sum() > 0 else features.amax((2, 3))


@pytest.mark.parametrize(
    ("make", "batch", "reason"),
    [
        (
            lambda: InputModel(resnet8()),
            torch.rand(2, 3, 32, 32),
            "for a SplitModel or an EarlyExitModel, and this is a I",
        ),
        (carra, (torch.rand(2, 3, 32, 32), torch.zeros(2)), "and this is a tuple: leave labels out"),
        (
            lambda: SplitModel(split(nn.Sequential(nn.Conv2d(3, 4, 3), Branching()), "0", SHAPE), MinMax(4), Huffman()),
            torch.rand(2, 3, 32, 32),
            "the tail of Sequential cannot be quantized, FX cannot trace it",
        ),
        (
            lambda: to_int8(carra(), [torch.rand(2, 3, 32, 32)]).model,
            torch.rand(2, 3, 32, 32),
            "it is in INT8 already",
        ),
    ],
)
def test_what_cannot_be_quantized_is_one_sentence(make: Any, batch: Any, reason: str) -> None:
    with pytest.raises(Int8Error, match=reason):
        to_int8(make(), [batch])
