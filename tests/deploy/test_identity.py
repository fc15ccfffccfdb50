"""An export knows the network that it was trained in: tensors in their places, and what is computed from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import ResNet, googlenet
from torchvision.models.resnet import Bottleneck as ResNetBlock

from splitlearn.codecs import Huffman
from splitlearn.deploy import ExportError, export_bottleneck, load_bottleneck, read_export, sample_outputs, weights_id
from splitlearn.deploy.bottleneck_file import tensors_id
from splitlearn.deploy.identity import agree, unordered_weights_id
from splitlearn.models import Bottleneck, DepthwiseSeparable, SplitModel, split
from splitlearn.quantizers import MinMax
from tests.networks import SHAPE, datta, digits, halves, network

Change = Callable[[nn.Module], Any]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bottleneck(datta(), tmp_path_factory.mktemp("export") / "b.safetensors")


def exchange(first: str, second: str) -> Change:
    """Exchange two modules of the same shapes."""

    def change(net: nn.Module) -> None:
        one, other = net.get_submodule(first), net.get_submodule(second)
        net.set_submodule(first, other)
        net.set_submodule(second, one)

    return change


def exchange_rows(net: nn.Module) -> None:
    linear = net.get_submodule("linear")
    with torch.no_grad():
        linear.weight.copy_(linear.weight.flip(0))  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [exchange("layer3.1", "layer3.2"), exchange("layer3.1.bn1", "layer3.1.bn2"), exchange_rows],
)
def test_tensors_in_other_places_are_another_network(export: Path, change: Change) -> None:
    net = network()
    change(net)
    with pytest.raises(ExportError, match=r"belongs to CifarResNet with weights .* but this CifarResNet has weights"):
        load_bottleneck(export, net)


def with_eps(eps: float, net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def with_activation(make: Callable[[], nn.Module], net: nn.Module) -> None:
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.ReLU):
            net.set_submodule(name, make())


def with_other_edges(net: nn.Module) -> None:
    old: Any = net.get_submodule("layer3.2.conv1")
    new = nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect", bias=False)
    new.weight = old.weight
    net.set_submodule("layer3.2.conv1", new)


@pytest.mark.parametrize("change", [partial(with_eps, 1e-3), partial(with_activation, nn.SiLU), with_other_edges])
def test_the_same_weights_in_other_layers_are_another_network(export: Path, change: Change) -> None:
    net = network()
    before = weights_id(split(net, "layer2", SHAPE))
    change(net)
    assert weights_id(split(net, "layer2", SHAPE)) == before
    with pytest.raises(ExportError, match=r"computes other outputs from them .*: build it as it was"):
        load_bottleneck(export, net)


@pytest.mark.parametrize(
    ("make", "at", "other"),
    [
        (
            partial(ResNet, ResNetBlock, [1, 1, 2, 2], num_classes=4),
            "layer1",
            {"replace_stride_with_dilation": [False, True, True]},
        ),
        (
            partial(googlenet, num_classes=4, init_weights=False, aux_logits=False),
            "maxpool2",
            {"transform_input": True},
        ),
    ],
)
def test_arguments_without_weights_count(
    tmp_path: Path, make: Callable[..., nn.Module], at: str, other: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net = make().eval()
    unit = partial(DepthwiseSeparable, channels=4, stride=1)
    model = SplitModel(split(net, at, (3, 64, 64)), MinMax(8), Huffman(), unit).eval()
    path = export_bottleneck(model, tmp_path / "b.safetensors")
    same, changed = make().eval(), make(**other).eval()
    same.load_state_dict(net.state_dict()), changed.load_state_dict(net.state_dict())
    load_bottleneck(path, same)
    with pytest.raises(ExportError, match="computes other outputs from them"):
        load_bottleneck(path, changed)


def test_exports_of_format_2_still_load(export: Path, tmp_path: Path) -> None:
    manifest, tensors = read_export(export)
    old = {name: tensor for name, tensor in tensors.items() if not name.startswith("answers.")}
    manifest |= {"format_version": 2, "weights_id": unordered_weights_id(datta().net)}
    manifest["tensors_id"] = tensors_id(old)
    path = tmp_path / "old.safetensors"
    save_file(old, path, {"manifest": json.dumps(manifest)})
    assert load_bottleneck(path, network()).compress(digits(2)) == load_bottleneck(export, network()).compress(
        digits(2)
    )
    other = network(seed=1)
    with pytest.raises(ExportError, match="belongs to CifarResNet with weights"):
        load_bottleneck(path, other)


def test_answers_missing_from_a_file_are_no_answers(export: Path, tmp_path: Path) -> None:
    manifest, tensors = read_export(export)
    old = {name: tensor for name, tensor in load_file(export).items() if not name.startswith("answers.")}
    path = tmp_path / "old.safetensors"
    save_file(old, path, {"manifest": json.dumps(manifest | {"tensors_id": tensors_id(old)})})
    with pytest.raises(ExportError, match="computes other outputs"):
        load_bottleneck(path, network())
    assert tensors.keys() - old.keys() == {
        *("answers.network.0", "answers.network.1", "answers.bottlenecks.0", "answers.bottlenecks.1")
    }


def test_answers_do_not_depend_on_mode_or_precision_around_them() -> None:
    model = datta()
    first = sample_outputs(model)
    model.coder.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        second = sample_outputs(model)
    assert model.coder.training
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert [len(tensor) for tensor in first.values()] == [64, 10, 64, 64]


class Scale(nn.Module):
    """Scales by a number that only a constructor's argument or nothing keeps."""

    hidden: Tensor

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.register_buffer("hidden", torch.ones(1), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        scaled: Tensor = latent * self.gain * self.hidden
        return scaled


class Scaled(Bottleneck):
    """The features themselves, scaled when they are restored."""

    def __init__(self, shape: Sequence[int], gain: float = 1.0) -> None:
        super().__init__()
        self.shape, self.gain = tuple(shape), gain
        self.encoder, self.decoder = nn.Identity(), Scale(gain)


def with_gain(unit: Any) -> None:
    unit.decoder.gain = 3.0


def with_argument(unit: Any) -> None:
    unit.gain = 2.0


def with_buffer(unit: Any) -> None:
    unit.decoder.hidden.fill_(2.5)


def with_hook(unit: Any) -> None:
    unit.encoder.register_forward_hook(lambda _, __, output: 2 * output)


@pytest.mark.parametrize("change", [with_gain, with_argument, with_buffer, with_hook])
def test_a_bottleneck_whose_state_is_not_in_the_file_is_refused(tmp_path: Path, change: Callable[[Any], None]) -> None:
    model = SplitModel(halves("layer2"), MinMax(6), Huffman(), Scaled).eval()
    path = export_bottleneck(model, tmp_path / "b.safetensors")
    assert torch.equal(load_bottleneck(path, network())(digits(2)), model(digits(2)))
    change(model.coder.bottlenecks[0])
    changed = export_bottleneck(model, tmp_path / "c.safetensors")
    with pytest.raises(ExportError, match=r"its bottleneck computes other outputs .* keep learnt state"):
        load_bottleneck(changed, network())


@pytest.mark.parametrize(("noise", "same"), [(1e-6, True), (1e-2, False)])
def test_last_bits_do_not_count(noise: float, same: bool) -> None:
    first = {"0": torch.linspace(-3, 5, 100), "1": torch.full((4,), float("nan"))}
    other = {name: tensor * (1 + noise) for name, tensor in first.items()}
    assert agree(other, first, torch.float32) is same
    assert not agree({"0": first["0"]}, first, torch.float32)
    assert not agree(first | {"0": first["0"][:9]}, first, torch.float32)
