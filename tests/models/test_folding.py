"""Frozen convolutions take over the norms behind them: equal outputs and gradients, the same state dict, all undone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from splitlearn.models import backbone, fold_norms, freeze, mobilenet_v2_cifar, mobilenet_v2_same, split, unfold_norms


def with_statistics(network: nn.Module) -> nn.Module:
    """Give all norms statistics and scales that matter."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


def answer_and_gradient(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    output = network(images)
    output.square().sum().backward()
    assert images.grad is not None
    return output.detach(), images.grad


@pytest.mark.parametrize(
    ("network", "side"), [(mobilenet_v2_cifar(), 32), (mobilenet_v2_same(), 32), (backbone("torchvision/resnet18"), 64)]
)
def test_outputs_and_gradients_stay(network: nn.Module, side: int) -> None:
    network = freeze(with_statistics(network)).double()  # so that rounding moves nothing across a kink
    images = torch.rand(2, 3, side, side).double()
    before, state = answer_and_gradient(network, images), copy.deepcopy(network.state_dict())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert fold_norms(network) == norms
    for mine, theirs in zip(answer_and_gradient(network, images), before, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    unfold_norms(network)
    assert all(torch.equal(*pair) for pair in zip(answer_and_gradient(network, images), before, strict=True))


def test_both_sides_of_a_cut_fold() -> None:
    net = split(with_statistics(mobilenet_v2_cifar()), "blocks.6", torch.rand(1, 3, 32, 32))
    freeze(net)
    images = torch.rand(2, 3, 32, 32)
    before = net.tail(*net.head(images))
    assert fold_norms(net) == sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    torch.testing.assert_close(net.tail(*net.head(images)), before, rtol=1e-3, atol=1e-4)


class Awkward(nn.Module):
    """Convolutions whose norms cannot be folded: read twice, run twice, untraceable, or trained."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        read_twice = self.convolutions[0](images)
        found = self.norms[0](read_twice) + read_twice
        for _ in range(2):
            found = self.norms[1](self.convolutions[1](found))
        found = found if found.sum() < 0 else self.norms[2](self.convolutions[2](found))
        return torch.relu(found)


def test_what_cannot_be_folded_stays() -> None:
    network = freeze(with_statistics(Awkward()))
    images = torch.rand(2, 3, 4, 4)
    before = network(images)
    assert fold_norms(network) == 0
    assert torch.equal(network(images), before)


def test_what_trains_is_not_folded() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), freeze(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    )
    assert fold_norms(network) == 1
    network.train()(torch.rand(2, 3, 4, 4)).sum().backward()
    assert network[0].weight.grad is not None
    assert network[1].num_batches_tracked == 1
