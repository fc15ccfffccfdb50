"""A frozen module stays as it is, whoever calls `train()` and wherever it is copied to."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from lightning import LightningModule
from torch import nn
from torchvision.models import resnet18

from splitlearn.models import CutError, freeze, frozen_except, split


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(4)))


def stays(module: nn.Module) -> bool:
    """Whether `module` gives the same twice, counts nothing and has no gradients, after every `train()` there is."""
    holder = nn.ModuleList([module]).train()
    for part in module.modules():
        part.train()
    images = torch.rand(4, 3, 16, 16) + 1
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        same = torch.equal(module(images), module(images))
    unchanged = all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    return same and unchanged and holder.training and not any(part.training for part in module.modules())


def reload(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, nn.Module)
    return loaded


@pytest.mark.parametrize("pass_on", [lambda m: m, copy.deepcopy, reload], ids=["itself", "deepcopy", "pickle"])
def test_stays_in_eval_for_good(pass_on: Callable[[nn.Module], nn.Module]) -> None:
    assert not stays(network())
    frozen = pass_on(freeze(network()))
    assert stays(frozen)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_copies_belong_to_themselves() -> None:
    frozen = freeze(network())
    other = copy.deepcopy(frozen)
    assert other.train() is other
    assert frozen.train() is frozen
    assert frozen.eval() is frozen


@pytest.mark.parametrize("pass_on", [lambda m: m, copy.deepcopy], ids=["itself", "deepcopy"])
def test_a_frozen_head_never_wakes(pass_on: Callable[[nn.Module], nn.Module]) -> None:
    net = split(resnet18(num_classes=4), "layer2", (3, 32, 32))
    freeze(net.head)
    net = pass_on(net)  # type: ignore[assignment]
    net.train()
    assert net.tail.training
    assert not any(part.training for part in net.head.modules())
    before = {name: tensor.clone() for name, tensor in net.head.state_dict().items()}
    net(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.head.state_dict().items())
    assert all(parameter.grad is None for parameter in net.head.parameters())
    assert all(parameter.grad is not None for parameter in net.tail.parameters())


def test_gradients_are_dropped() -> None:
    module = network()
    module(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is None for parameter in freeze(module).parameters())


def test_names_class_and_loading_stay() -> None:
    frozen, other = freeze(network()), network()
    assert type(frozen) is nn.Sequential
    assert frozen.state_dict().keys() == other.state_dict().keys()
    frozen.load_state_dict(other.state_dict())
    assert torch.equal(frozen.state_dict()["0.weight"], other.state_dict()["0.weight"])
    assert stays(frozen)


def test_inside_a_lightning_module() -> None:
    class Task(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.head = freeze(network())
            self.tail = nn.BatchNorm2d(4)

    task = Task().train()
    assert task.tail.training
    assert stays(task.head)
    task.unfreeze()  # Lightning's own switch asks for gradients again, but batch norm stays asleep
    assert not task.head.training


def test_all_but_what_is_named_freezes() -> None:
    model = frozen_except(resnet18(), ["fc", "layer4.1.bn2"])
    model.train()
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trains == {f"{name}.{kind}" for name in ("fc", "layer4.1.bn2") for kind in ("weight", "bias")}
    leaves = {name for name, module in model.named_modules() if module.training and not list(module.children())}
    assert leaves == {"fc", "layer4.1.bn2"}


def test_what_is_excepted_must_exist() -> None:
    with pytest.raises(CutError, match="no module 'classifier' in ResNet"):
        frozen_except(resnet18(), ["classifier"])
    with pytest.raises(ValueError, match="nothing would train"):
        frozen_except(resnet18(), [])
