from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, fx, nn
from torchvision.models import mobilenet_v2

from splitlearn.models import WeightsError, backbone, mobilenet_v2_cifar, vgg19_cifar


def test_it_is_torchvisions_network_but_for_strides_and_relu() -> None:
    model, original = mobilenet_v2_cifar(), mobilenet_v2(num_classes=10)
    mine, theirs = ([tuple(p.shape) for p in m.parameters()] for m in (model, original))
    assert mine == theirs
    strides = [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert strides.count(2) == 3
    assert [m.stride[0] for m in original.modules() if isinstance(m, nn.Conv2d)].count(2) == 5


def test_exits_are_numbered_as_in_the_paper() -> None:
    exits = mobilenet_v2_cifar().exits
    ends = {2: 0, 5: 1, 8: 2, 12: 3, 15: 4}
    assert {number: exits[number] for number in ends} == {n: f"blocks.{b}.compression" for n, b in ends.items()}
    assert [exits[i] for i in (0, 4, 9, 16)] == ["stem", "blocks.1.depthwise", "blocks.2", "blocks.4"]


def test_parts_end_in_relu_but_compressions() -> None:
    model = mobilenet_v2_cifar().eval()
    for name in model.exits[:6]:
        found: list[Tensor] = []
        handle = model.get_submodule(name).register_forward_hook(lambda *args, found=found: found.append(args[2].min()))
        model(torch.randn(2, 3, 32, 32))
        handle.remove()
        assert (found[0] < 0) == name.endswith("compression")


@pytest.mark.parametrize("build", [mobilenet_v2_cifar, vgg19_cifar])
def test_networks_classify_trace_exactly_and_take_their_weights(
    build: Callable[..., nn.Module], tmp_path: Path
) -> None:
    model, images = build(num_classes=7).eval(), torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 7)
    assert torch.equal(fx.symbolic_trace(model)(images), model(images))
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = backbone(build.__name__, str(tmp_path / "weights.safetensors"), num_classes=7).eval()
    assert torch.equal(again(images), model(images))
    with pytest.raises(WeightsError, match="another architecture"):
        build(num_classes=3, weights=tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="at least 1"):
        build(num_classes=0)


def test_block_2_of_vgg_ends_in_max_pooling() -> None:
    model = vgg19_cifar().eval()
    assert model.blocks[:2](torch.randn(1, 3, 32, 32)).shape == (1, 128, 8, 8)
    assert isinstance(model.get_submodule("blocks.1")[-1], nn.MaxPool2d)  # type: ignore[index]
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 16
