"""Small residual networks of He et al. for 32 x 32 images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlearn.models.networks.weights import with_weights

__all__ = ["CifarResNet", "resnet8", "resnet20", "resnet32", "resnet44", "resnet56"]


class CifarResNet(nn.Module):
    """A stem, three stages of residual blocks at strides 1, 2 and 4, and a linear classifier.

    ```
    images (B,3,32,32) → conv1, bn1 → layer1 (B,16,32,32) → layer2 (B,32,16,16) → layer3 (B,64,8,8)
                       → avgpool → linear → logits (B,num_classes)
    ```

    Shortcuts have no parameters (the paper's option A). Every activation is a separate module, so that the network can
    be cut at it by name, for instance at `layer2.0.relu1`.

    Args:
        blocks: residual blocks per stage; the network then has 6 · blocks + 2 layers with weights.
        num_classes: width of the classifier.

    Reference: He et al. 2016, Sec. 4.2.
    """

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        if blocks < 1 or num_classes < 1:
            raise ValueError(f"blocks and num_classes must be at least 1, got {blocks} and {num_classes}")
        self.blocks = blocks
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of normalized images `(B, 3, H, W)`, at least 4 × 4."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(torch.flatten(self.avgpool(features), 1))
        return logits


def resnet8(num_classes: int = 10, weights: str | Path | None = None) -> CifarResNet:
    """Return the CIFAR ResNet of 8 layers, for demonstrations: 0.08 M parameters, 12 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarResNet(1, num_classes), weights)


def resnet20(num_classes: int = 10, weights: str | Path | None = None) -> CifarResNet:
    """Return the CIFAR ResNet of 20 layers: 0.27 M parameters, 41 M multiply-accumulates.

    Args:
        num_classes: width of the classifier.
        weights: path of a safetensors file; None for random weights.

    Raises:
        FileNotFoundError: if the file does not exist.
        WeightsError: if the file belongs to another architecture.
    """
    return with_weights(CifarResNet(3, num_classes), weights)


def resnet32(num_classes: int = 10, weights: str | Path | None = None) -> CifarResNet:
    """Return the CIFAR ResNet of 32 layers: 0.46 M parameters, 69 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarResNet(5, num_classes), weights)


def resnet44(num_classes: int = 10, weights: str | Path | None = None) -> CifarResNet:
    """Return the CIFAR ResNet of 44 layers: 0.66 M parameters, 97 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarResNet(7, num_classes), weights)


def resnet56(num_classes: int = 10, weights: str | Path | None = None) -> CifarResNet:
    """Return the CIFAR ResNet of 56 layers: 0.85 M parameters, 125 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarResNet(9, num_classes), weights)


class _Block(nn.Module):
    """Residual block of two 3 x 3 convolutions."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same_shape = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same_shape else _Shortcut(channels - channels_in, stride)
        self.relu2 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(features)))))
        activations: Tensor = self.relu2(residual + self.shortcut(features))
        return activations


class _Shortcut(nn.Module):
    """Shortcut of option A: subsampling and zero channels, half before and half after."""

    def __init__(self, channels_added: int, stride: int) -> None:
        super().__init__()
        self.before = channels_added // 2
        self.after = channels_added - self.before
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        subsampled = features[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled, (0, 0, 0, 0, self.before, self.after))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(channels_in, channels, stride)
    return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(blocks - 1)))
