"""VGG-19 for 32 x 32 images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from splitlearn.models.networks.weights import with_weights
from splitlearn.outputs import check_num_classes

__all__ = ["CifarVgg", "vgg19_cifar"]

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels, convolutions


class CifarVgg(nn.Module):
    """Five blocks of 3 x 3 convolutions, each with batch norm and ReLU, and max-pooling; a linear classifier.

    ```
    images (B,3,32,32) → blocks.0 (B,64,16,16) → blocks.1 (B,128,8,8) → blocks.2 (B,256,4,4) → blocks.3 (B,512,2,2)
                       → blocks.4 (B,512,1,1) → linear → logits (B,num_classes)
    ```

    The three wide layers of the original classifier are one, as usual at this size. Batch norm, which is newer than the
    original, allows training from scratch. Beysens et al. regularise the output of `blocks.1`.

    Args:
        num_classes: width of the classifier.

    Reference: Simonyan & Zisserman 2015, Table 1 (configuration E).
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.num_classes = num_classes
        blocks, channels_in = [], 3
        for channels, convolutions in STAGES:
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
                layers += [nn.ReLU(inplace=True)]
                channels_in = channels
            blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of normalized images `(B, 3, H, W)`, at least 32 × 32."""
        logits: Tensor = self.linear(torch.flatten(self.pool(self.blocks(images)), 1))
        return logits


def vgg19_cifar(num_classes: int = 10, weights: str | Path | None = None) -> CifarVgg:
    """Return VGG-19 for 32 x 32 images, with batch norm: 20 M parameters, 398 M multiply-accumulates.

    Arguments and errors are those of `resnet20`.
    """
    return with_weights(CifarVgg(num_classes), weights)
