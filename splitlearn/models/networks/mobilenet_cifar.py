"""MobileNetV2 for 32 x 32 images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from splitlearn.models.networks.weights import with_weights
from splitlearn.outputs import check_num_classes

__all__ = ["CifarMobileNetV2", "mobilenet_v2_cifar"]

STAGES = (  # expansion, channels, blocks, stride of the first block; the original has stride 2 at 24 channels
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280  # channels


class CifarMobileNetV2(nn.Module):
    """A stem, 17 inverted residual blocks, a 1 x 1 convolution and a linear classifier.

    ```
    images (B,3,32,32) → stem (B,32,32,32) → blocks.0 … blocks.2 (B,24,32,32) → blocks.3 … blocks.5 (B,32,16,16)
                       → blocks.6 … blocks.12 (B,96,8,8) → blocks.13 … blocks.16 (B,320,4,4) → last → pool → linear
    ```

    Stem and the stage of 24 channels have stride 1, so that 32-pixel images keep their size up to `blocks.2`. A block
    consists of `expansion` (C1 of Beysens et al.) and `depthwise` (C2), both with ReLU, and `compression` (C3) without;
    `blocks.0` has no expansion. Cuts and exits can be placed at each of them by name.

    Args:
        num_classes: width of the classifier.

    Attributes:
        exits: module names of the exits of Beysens et al., by number: stem, parts of blocks, and whole blocks with a
            shortcut. `exits[5]` is `blocks.1.compression`.

    Reference: Sandler et al. 2018, Tables 1 and 2; Beysens et al. 2023, Table I and Fig. 3.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.stem = _layer(3, STEM, kernel=3)
        blocks, channels = [], STEM
        for expansion, width, count, stride in STAGES:
            for number in range(count):
                blocks.append(_Block(channels, width, stride if number == 0 else 1, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.last = _layer(channels, LAST, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(LAST, num_classes)
        self.exits = ["stem"]
        for number, block in enumerate(blocks):
            parts = [name for name, _ in block.named_children()]
            self.exits += [f"blocks.{number}.{part}" for part in parts]
            self.exits += [f"blocks.{number}"] if block.shortcut else []
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of normalized images `(B, 3, H, W)`, 32 × 32 in the paper."""
        features = self.last(self.blocks(self.stem(images)))
        logits: Tensor = self.linear(torch.flatten(self.pool(features), 1))
        return logits


def mobilenet_v2_cifar(num_classes: int = 10, weights: str | Path | None = None) -> CifarMobileNetV2:
    """Return MobileNetV2 of width 1.0 for 32 x 32 images: 2.2 M parameters, 88 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarMobileNetV2(num_classes), weights)


class _Block(nn.Module):
    """Inverted residual block: expansion, depthwise convolution, compression."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * channels_in
        if expansion > 1:
            self.expansion = _layer(channels_in, wide, kernel=1)
        self.depthwise = _layer(wide, wide, kernel=3, stride=stride, groups=wide)
        self.compression = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, features: Tensor) -> Tensor:
        wide = self.expansion(features) if hasattr(self, "expansion") else features
        narrow: Tensor = self.compression(self.depthwise(wide))
        return features + narrow if self.shortcut else narrow


def _layer(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
