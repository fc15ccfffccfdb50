"""Outputs of layers are those of the whole pass, and what lies behind them does not run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.models import CutError, faster_rcnn, resnet8
from splitlearn.models.layer_outputs import changed_output, in_order, layer_outputs, watched


class Fails(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        raise AssertionError("this layer was to be left out")


def test_outputs_of_layers_and_nothing_behind_them() -> None:
    net = resnet8().eval()
    images = torch.rand(2, 3, 32, 32)
    with watched(net, ["layer1", "layer2"]) as found:
        net(images)
    whole = dict(zip(found, in_order(found, list(found)), strict=True))
    net.set_submodule("layer3", Fails())
    first, again, second = layer_outputs(net, ["layer2", "layer2", "layer1"], images)
    assert torch.equal(first, whole["layer2"])
    assert first is again
    assert torch.equal(second, whole["layer1"])
    assert not any(module._forward_hooks for module in net.modules())


def test_of_a_detector_only_the_backbone_runs() -> None:
    net = faster_rcnn("resnet18", 2, min_size=64, max_size=96, pyramid=16, box_width=16).eval()
    net.rpn = Fails()
    deep, shallow = layer_outputs(
        net, ["backbone.body.layer4", "backbone.body.layer1"], [torch.rand(3, 60, 90), torch.rand(3, 64, 64)]
    )
    assert deep.shape == (2, 512, 2, 3)
    assert shallow.shape == (2, 64, 16, 24)


def test_a_layer_s_output_can_be_changed_and_hooks_are_gone_afterwards() -> None:
    net = nn.Sequential(nn.Identity(), nn.Identity())
    with changed_output(net, "0", lambda output: output + 1):
        assert net(torch.zeros(1)) == 1
    assert net(torch.zeros(1)) == 0
    with pytest.raises(AssertionError, match="left out"):
        layer_outputs(nn.Sequential(Fails(), nn.Identity()), ["1"], torch.zeros(1))
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("graph", [True, False], ids=["with a graph", "without"])
def test_an_output_that_is_overwritten_is_told(graph: bool) -> None:
    net, images = resnet18().eval(), torch.rand(1, 3, 32, 32)
    with torch.set_grad_enabled(graph):
        (alone,) = layer_outputs(net, ["bn1"], images)  # the ReLU behind it does not run
        assert alone.min() < 0
        with pytest.raises(ValueError, match=r"the output of bn1 is overwritten .*: name the layer behind it instead"):
            layer_outputs(net, ["bn1", "layer1"], images)
        with watched(net, ["bn1"]) as found:
            net(images)
        with pytest.raises(ValueError, match="the output of bn1 is overwritten"):
            in_order(found, ["bn1"])
        relu, _ = layer_outputs(net, ["relu", "layer1"], images)
    assert torch.equal(relu, alone.relu())


def test_in_inference_mode_an_output_outlives_what_overwrites_it() -> None:
    net, images = resnet18().eval(), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        (alone,) = layer_outputs(net, ["bn1"], images)
        first, second = layer_outputs(net, ["bn1", "relu"], images)
    assert torch.equal(first, alone)
    assert torch.equal(second, alone.relu())


def test_a_wrong_name_is_told() -> None:
    net = resnet8()
    with pytest.raises(CutError, match="layer1"):
        layer_outputs(net, ["layer11"], torch.rand(1, 3, 32, 32))


def test_a_layer_without_a_part_or_a_tensor_is_told() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Identity(), nn.Identity()
            self.two = Two()

        def forward(self, images: Tensor) -> Tensor:
            first: Tensor = self.two(self.used(images))[0]
            return first

    class Two(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    with pytest.raises(ValueError, match="unused takes no part"):
        layer_outputs(Lazy(), ["used", "unused"], torch.rand(1))
    with pytest.raises(ValueError, match="two gives a tuple"):
        layer_outputs(Lazy(), ["two"], torch.rand(1))
