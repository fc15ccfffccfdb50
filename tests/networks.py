"""Small split networks and real images that several test files share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck as ResNetBottleneck
from torchvision.models.resnet import ResNet

from splitlearn.codecs import Codec, Huffman, RunLength
from splitlearn.data import Digits
from splitlearn.models import CifarResNet, DepthwiseSeparable, Normalize, Split, SplitModel, resnet20, split
from splitlearn.quantizers import MinMax, Step

SHAPE = (3, 32, 32)


@cache
def _digits() -> tuple[Tensor, Tensor]:
    data = Digits(batch_size=64)
    data.setup("test")
    return data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)


def digits(count: int) -> Tensor:
    """The first test images of the digits, float `(count, 3, 32, 32)` in [0, 1]."""
    return _digits()[0][:count].clone()


@cache
def _original(make: Callable[..., nn.Module], *arguments: Any) -> tuple[nn.Module, Tensor]:
    """What `make` builds, and the state that it leaves the random numbers in."""
    return make(*arguments), torch.get_rng_state()


def _copy(make: Callable[..., nn.Module], *arguments: Any) -> Any:
    """A model that is the caller's own, and the random numbers that follow it, at a tenth of the cost of building."""
    model, state = _original(make, *arguments)
    torch.set_rng_state(state)
    return deepcopy(model)


def _network(seed: int) -> CifarResNet:
    torch.manual_seed(seed)
    model = resnet20().train()
    with torch.no_grad():
        model(_digits()[0])
    return model.eval()


def _cut(at: str, seed: int) -> Split:
    return split(_network(seed), at, SHAPE)


def network(seed: int = 0) -> CifarResNet:
    """A ResNet-20 whose weights and batch statistics are drawn from `seed`."""
    model: CifarResNet = _copy(_network, seed)
    return model


def halves(at: str, seed: int = 0) -> Split:
    """The halves of `network(seed)`, proven exact when they were first asked for."""
    net: Split = _copy(_cut, at, seed)
    return net


def datta(codec: Codec | None = None, normalize: Normalize | None = None, seed: int = 0) -> SplitModel:
    """Bottleneck of eight channels, fixed step, Huffman code."""
    bottleneck = partial(DepthwiseSeparable, channels=8, stride=2)
    return SplitModel(halves("layer2", seed), Step(0.125), codec or Huffman(), bottleneck, normalize).eval()


def carra(seed: int = 0) -> SplitModel:
    """No bottleneck, four bits between the extremes, run lengths."""
    return SplitModel(halves("layer1.2.relu2", seed), MinMax(4), RunLength()).eval()


class Colours(nn.Module):
    """Tells black from pure colours, at half the size of the image, by way of a layer to cut at."""

    def __init__(self, as_dict: bool = False, wrong: bool = False) -> None:
        super().__init__()
        self.as_dict = as_dict
        first, last = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.eye(8, 3)[:, :, None, None])
            colours = torch.eye(3).roll(1, 0) if wrong else torch.eye(3)
            brightness = torch.full((1, 3), -1.0)
            last.weight.copy_(nn.functional.pad(torch.cat([brightness, colours - 0.5]), (0, 5))[:, :, None, None])
        self.features = nn.Sequential(nn.AvgPool2d(2), first, nn.ReLU())
        self.classifier = last

    def forward(self, images: Tensor) -> Any:
        logits = self.classifier(self.features(images))
        return OrderedDict(out=logits) if self.as_dict else logits


class Grey(nn.Module):
    """Classifies grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.features(images).relu()).mean((2, 3)))


class NarrowLinear(nn.Linear):
    """A linear layer with 64 features where VGG's classifier has 4,096."""

    def __init__(self, in_features: int, out_features: int) -> None:
        narrow = {4096: 64}
        super().__init__(narrow.get(in_features, in_features), narrow.get(out_features, out_features))


def narrow_resnet(block: type[nn.Module], layers: list[int], **settings: Any) -> ResNet:
    """A ResNet with a quarter of the channels inside its bottleneck blocks, and all of them between blocks."""
    return ResNet(block, layers, **settings, **({"width_per_group": 16} if block is ResNetBottleneck else {}))


def narrow_networks(patch: pytest.MonkeyPatch) -> None:
    """Let VGGs and large ResNets of torchvision take a tenth of their memory, with the channels that configs cut."""
    patch.setattr("torchvision.models.vgg.nn", SimpleNamespace(**vars(nn) | {"Linear": NarrowLinear}))
    patch.setattr("torchvision.models.resnet.ResNet", narrow_resnet)
