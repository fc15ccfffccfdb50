"""Small split networks and real images that several test files share."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec, Huffman, RunLength
from splitlearn.data import Digits
from splitlearn.models import CifarResNet, DepthwiseSeparable, Normalize, SplitModel, resnet20, split
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


def network(seed: int = 0) -> CifarResNet:
    """A ResNet-20 whose weights and batch statistics are drawn from `seed`."""
    torch.manual_seed(seed)
    model = resnet20().train()
    with torch.no_grad():
        model(_digits()[0])
    return model.eval()


def datta(codec: Codec | None = None, normalize: Normalize | None = None, seed: int = 0) -> SplitModel:
    """Bottleneck of eight channels, fixed step, Huffman code."""
    net = split(network(seed), "layer2", SHAPE)
    bottleneck = partial(DepthwiseSeparable, channels=8, stride=2)
    return SplitModel(net, Step(0.125), codec or Huffman(), bottleneck, normalize).eval()


def carra(seed: int = 0) -> SplitModel:
    """No bottleneck, four bits between the extremes, run lengths."""
    return SplitModel(split(network(seed), "layer1.2.relu2", SHAPE), MinMax(4), RunLength()).eval()


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


class NarrowLinear(nn.Linear):
    """A linear layer with 64 features where VGG's classifier has 4,096."""

    def __init__(self, in_features: int, out_features: int) -> None:
        narrow = {4096: 64}
        super().__init__(narrow.get(in_features, in_features), narrow.get(out_features, out_features))


def narrow_classifier(patch: pytest.MonkeyPatch) -> None:
    """Let networks of torchvision's VGG family take 70 MB, not half a gigabyte: no cut lies in their classifier."""
    patch.setattr("torchvision.models.vgg.nn", SimpleNamespace(**vars(nn) | {"Linear": NarrowLinear}))
