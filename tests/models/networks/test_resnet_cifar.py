from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import fx

from splitlearn.models import WeightsError
from splitlearn.models.networks.resnet_cifar import CifarResNet, resnet20, resnet32, resnet44, resnet56


@pytest.mark.parametrize(
    ("build", "parameters"), [(resnet20, 269722), (resnet32, 464154), (resnet44, 658586), (resnet56, 853018)]
)
def test_number_of_parameters_agrees_with_the_paper(build: Callable[[], CifarResNet], parameters: int) -> None:
    assert sum(p.numel() for p in build().parameters()) == parameters


def test_stages_have_the_papers_shapes() -> None:
    model = resnet20(num_classes=7).eval()
    first = model.relu(model.bn1(model.conv1(torch.rand(2, 3, 32, 32))))
    shapes = [first.shape]
    for stage in (model.layer1, model.layer2, model.layer3):
        first = stage(first)
        shapes.append(first.shape)
    assert [tuple(s[1:]) for s in shapes] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_shortcut_pads_channels_on_both_sides_with_zeros() -> None:
    features = torch.rand(1, 16, 4, 4)
    shortcut = resnet20().layer2[0].shortcut(features)  # type: ignore[operator]
    assert torch.equal(shortcut[:, 8:24], features[:, :, ::2, ::2])
    assert shortcut[:, :8].count_nonzero() == shortcut[:, 24:].count_nonzero() == 0


def test_fx_trace_is_exact() -> None:
    model = resnet20().eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(fx.symbolic_trace(model)(images), model(images))


def test_given_weights_fit_and_those_of_another_depth_do_not(shared_data: Path) -> None:
    file = shared_data / "weights" / "resnet20_cifar10.safetensors"
    assert resnet20(weights=file).linear.weight.abs().sum() > 0
    with pytest.raises(WeightsError, match=r"layer1\.3\.conv1\.weight is missing.*another architecture"):
        resnet32(weights=str(file))


@pytest.mark.parametrize(("blocks", "classes"), [(0, 10), (3, 0)])
def test_impossible_sizes_are_refused(blocks: int, classes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CifarResNet(blocks, classes)
