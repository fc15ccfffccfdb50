"""Small split networks and real images that several test files share."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor

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
