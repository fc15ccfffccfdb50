"""A network whose head is replaced by an encoder from pixels: payloads, the teacher, files and packages."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss
from torchvision.models import resnet18

from splitlearn.codecs import Huffman
from splitlearn.deploy import export_bank, export_bottleneck, load_bank, load_bottleneck, read_export
from splitlearn.models import (
    Normalize,
    PixelEncoder,
    PixelModel,
    SplitModel,
    faster_rcnn,
    resnet8,
    split,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import Step
from tests.networks import SHAPE, digits

WEIGHTS = Path(__file__).parents[3] / "checkpoints/resnet8_digits.safetensors"
NORMALIZE = Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
SMALL = partial(PixelEncoder, channels=6, width=8, depth=1, stride=8, patch=4, decoder_width=8, decoder_depth=1)


def made(seed: int = 0) -> PixelModel:
    torch.manual_seed(seed)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    return PixelModel(net, Step(0.25), Huffman(), SMALL, NORMALIZE).eval()


@cache
def model() -> PixelModel:
    return made()


def test_latents_and_predictions_of_payloads_are_those_of_the_differentiable_pass() -> None:
    images = digits(6)
    output, payloads = model().run(images), model().compress(images)
    assert torch.equal(model().coder.latents_hat(payloads)[0], model().coder.quantized(output.latents)[0])
    assert torch.equal(model().features_hat(payloads)[0], output.features_hat[0])
    assert torch.equal(model().decompress(payloads), output.prediction)
    assert model().coder.latent_shapes == [(6, 4, 4)]


def test_the_head_does_not_run_for_a_payload() -> None:
    ran: list[object] = []
    own = made()
    handle = own.net.get_submodule("teacher").register_forward_hook(lambda *_: ran.append(1))
    payloads = own.compress(digits(2))
    own.decompress(payloads)
    assert not ran
    own.run(digits(2))
    assert ran
    handle.remove()


def test_the_decoder_is_to_restore_what_the_networks_own_head_makes() -> None:
    images = digits(4)
    plain = SplitModel(split(resnet8(weights=WEIGHTS), "layer2", SHAPE), Step(), Huffman(), normalize=NORMALIZE)
    output = model().run(images)
    assert torch.equal(output.features[0], plain.features(images)[0])
    assert output.features[0].shape == output.features_hat[0].shape
    assert not output.features[0].requires_grad


def test_cached_images_and_features_stand_for_images() -> None:
    images = digits(4)
    sent = model().features(images)
    kept = Features((*sent, torch.full((4, 32, 16, 16), 0.5)), 32 * 32)
    output = model().run(kept)
    assert torch.equal(output.prediction, model().run(images).prediction)
    assert torch.equal(output.features[0], kept.tensors[1])
    assert torch.equal(model().run(Features(sent, 32 * 32)).features[0], model().run(images).features[0])
    assert model().compress(kept) == model().compress(images)


def test_only_the_bottleneck_trains() -> None:
    own = made().train()
    before = {name: tensor.clone() for name, tensor in own.net.state_dict().items()}
    output = own.run(digits(8))
    loss: Any = mse_loss(output.features_hat[0], output.features[0])
    loss.backward()
    assert all(parameter.grad is not None for parameter in own.coder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.net.state_dict().items())
    assert own.frozen


def test_costs_are_those_of_encoder_and_decoder_alone() -> None:
    found = model().complexity()
    patches, latent = 8 * 8, 4 * 4
    unit_macs = 8 * 4 + 9 * 4 * 4 + 4 * 8
    assert found.encoder_macs == patches * (3 * 16 * 8 + unit_macs) + latent * 9 * 8 * 6
    assert found.parameters == sum(p.numel() for p in model().parameters() if p.requires_grad)
    assert found.parameters == found.encoder_parameters + found.decoder_parameters
    encoder = model().coder.bottlenecks[0].get_submodule("encoder")
    assert found.encoder_parameters == sum(p.numel() for p in encoder.parameters())


def test_an_export_gives_the_same_payloads_and_predictions(tmp_path: Path) -> None:
    path = export_bottleneck(model(), tmp_path / "bottleneck.safetensors", {"test/accuracy": 0.5})
    assert read_export(path)[0]["crosses"] == "pixels"
    loaded = load_bottleneck(path, resnet8(weights=WEIGHTS))
    images = digits(5)
    assert loaded.compress(images) == model().compress(images)
    assert torch.equal(loaded.decompress(loaded.compress(images)), model()(images))
    again = export_bottleneck(loaded, tmp_path / "again.safetensors", {"test/accuracy": 0.5})
    assert read_export(again)[0] == read_export(path)[0]  # the checksum of all tensors among it


def test_a_bank_of_pixel_models_has_one_network(tmp_path: Path) -> None:
    files = []
    for seed in (0, 1):
        metrics = {"test/accuracy": 0.5 + seed, "test/bytes_per_image": 10.0 + seed}
        files.append(export_bottleneck(made(seed), tmp_path / f"{seed}.safetensors", metrics))
    bank = load_bank(export_bank(files, tmp_path / "bank.safetensors"), resnet8(weights=WEIGHTS))
    images = digits(3)
    assert bank.compress(images, rate=0) == model().compress(images)
    torch.testing.assert_close(bank.decompress(bank.compress(images, rate=1)), made(1)(images))
    assert bank.run(images).features[0].shape == bank.run(images).features_hat[0].shape


def test_a_cut_of_several_tensors_is_refused() -> None:
    net = split(faster_rcnn("resnet18", 3, min_size=64, max_size=96, pyramid=16), "backbone.body.layer1", (3, 64, 96))
    with pytest.raises(ValueError, match="needs a cut that one float tensor crosses, and images of any sizes cross at"):
        PixelModel(net, Step(), Huffman())
    inner = split(resnet18(), "layer2.1.conv1", (3, 64, 64))
    with pytest.raises(ValueError, match=r"and 2 tensors cross at 'layer2.1.conv1' of ResNet: cut at another module"):
        PixelModel(inner, Step(), Huffman())
