"""Bottleneck units: small trainable encoder–decoder pairs at the cut.

features (C, H, W) → encoder → latent (C_r, H_r, W_r) ═ quantize, code, send ═ latent_hat → decoder → features_hat
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from splitlearn.models.bottlenecks.transposed import DepthwiseTransposed

FeatureShape = tuple[int, ...]


class Bottleneck(nn.Module, ABC):
    """An encoder that runs on the device and a decoder that runs on the edge server.

    A subclass is made from the shape of the features at the cut and sets `encoder` and `decoder`, two plain modules.

    Attributes:
        shape: `(C, H, W)` of what the encoder takes of one image: its features, which the decoder restores, or pixels.
        encoder: features `(B, C, H, W)` → latent.
        decoder: latent → features.
        takes_any_shape: whether features of shapes other than `shape` are accepted.
    """

    takes_any_shape: ClassVar[bool] = False
    shape: FeatureShape
    encoder: nn.Module
    decoder: nn.Module

    def forward(self, features: Tensor) -> Tensor:
        """Return `decoder(encoder(features))`, without quantization."""
        restored: Tensor = self.decoder(self.encoder(features))
        return restored


BottleneckFactory = Callable[[FeatureShape], Bottleneck]
"""A bottleneck class with all arguments set except the feature shape, which the cut determines."""


class DepthwiseSeparable(Bottleneck):
    """Unit of Datta et al.: one depthwise-separable convolution and its mirror.

        encoder: 3×3 depthwise, stride S → 1×1 to C_r        (C, H, W) → (C_r, ⌈H/S⌉, ⌈W/S⌉)
        decoder: 1×1 to C → 3×3 depthwise transposed, stride S           → (C, H, W)

    As in the paper, there is no normalization and no non-linearity. For S > 3 the mirrored kernel does not reach every
    output position; unreached positions hold only the bias.

    Args:
        shape: `(C, H, W)` of the features at the cut.
        channels: C_r, channels of the latent.
        stride: S, by which the latent is smaller than the features, rounded up.

    Raises:
        ValueError: if the features are not `(C, H, W)`, `channels` or `stride` is not positive, or the stride is larger
            than the map.

    Reference:
        Datta et al. 2022, Sec. III-A and Fig. 2.
    """

    def __init__(self, shape: FeatureShape, channels: int = 32, stride: int = 2) -> None:
        super().__init__()
        self.shape, self.channels, self.stride = tuple(shape), channels, stride
        features = checked_channels(self.shape, channels, stride)
        self.encoder = nn.Sequential(
            nn.Conv2d(features, features, 3, stride, padding=1, groups=features), nn.Conv2d(features, channels, 1)
        )
        self.decoder = nn.Sequential(nn.Conv2d(channels, features, 1), _upsampling(self.shape, stride))


class NormalizedSeparable(Bottleneck):
    """Unit of Datta et al. with batch norm and a ReLU inside each half.

        encoder: K×K depthwise, stride S → norm, ReLU → 1×1 to C_r → norm with a learnt gain
        decoder: 1×1 to C → norm, ReLU → K×K depthwise transposed, stride S → PReLU

    K is 3 for strides 1 and 2. For larger strides a 3×3 kernel would skip parts of the map, so K is S and the map is
    padded with zeros below and on the right to a multiple of S.

    The norm before quantization makes training work at any cut: it keeps the latent at the scale of the quantizer's
    step, whereas latents of the unit without norms start close to zero. At test time the encoder's norms fold into its
    convolutions and cost the device nothing. The PReLU learns whether features may be negative.

    Args:
        shape: `(C, H, W)` of the features at the cut.
        channels: C_r, channels of the latent.
        stride: S, by which the latent is smaller than the features, rounded up.
        gain: standard deviation of the latent when training starts, in units of the quantizer's input.

    Raises:
        ValueError: if the features are not `(C, H, W)`, `channels` or `stride` is not positive, or the stride is larger
            than the map.
    """

    def __init__(self, shape: FeatureShape, channels: int = 32, stride: int = 2, gain: float = 2.0) -> None:
        super().__init__()
        self.shape, self.channels, self.stride, self.gain = tuple(shape), channels, stride, gain
        features = checked_channels(self.shape, channels, stride)
        norm = nn.BatchNorm2d(channels)
        nn.init.constant_(norm.weight, gain)
        narrow, widen = _resampling(self.shape, stride)
        self.encoder = nn.Sequential(
            *narrow, nn.BatchNorm2d(features), nn.ReLU(), nn.Conv2d(features, channels, 1, bias=False), norm
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, features, 1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
            *widen,
            nn.PReLU(features, init=0.1),
        )


def checked_channels(shape: FeatureShape, channels: int, stride: int) -> int:
    """Return the channels of features `(C, H, W)`; raise ValueError if a latent of this stride is impossible."""
    if len(shape) != 3:
        raise ValueError(
            f"a convolutional bottleneck needs features (C, H, W), but {shape} crosses this cut; "
            "cut elsewhere or leave the bottleneck out"
        )
    if channels < 1 or stride < 1:
        raise ValueError(f"channels and stride must be at least 1, got channels={channels}, stride={stride}")
    if stride > max(shape[1:]):
        raise ValueError(
            f"a stride of {stride} is larger than the map of {shape[1]}×{shape[2]} at this cut: take {max(shape[1:])} "
            "or less, or cut earlier"
        )
    return shape[0]


def _upsampling(shape: FeatureShape, stride: int) -> DepthwiseTransposed:
    """Mirror of a 3×3 convolution of stride S and padding 1: restores exactly H×W from ⌈H/S⌉×⌈W/S⌉."""
    features, height, width = shape
    missing = ((height - 1) % stride, (width - 1) % stride)
    return DepthwiseTransposed(features, 3, stride, padding=1, output_padding=missing)


def _resampling(shape: FeatureShape, stride: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return depthwise layers from H×W to ⌈H/S⌉×⌈W/S⌉ and back; every feature is covered."""
    features, height, width = shape
    if stride <= 2:
        narrow = nn.Conv2d(features, features, 3, stride, padding=1, groups=features, bias=False)
        return [narrow], [_upsampling(shape, stride)]
    narrow = nn.Conv2d(features, features, stride, stride, groups=features, bias=False)
    widen = DepthwiseTransposed(features, stride, stride)
    below, right = -height % stride, -width % stride
    if not below and not right:
        return [narrow], [widen]
    return [nn.ZeroPad2d((0, right, 0, below)), narrow], [widen, nn.ZeroPad2d((0, -right, 0, -below))]


class Identity(Bottleneck):
    """No bottleneck: the latent is the features themselves, without trainable parameters.

    Args:
        shape: shape of one image's features, of any rank.

    Reference:
        Carra & Neglia 2023.
    """

    takes_any_shape = True

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.encoder = nn.Identity()
        self.decoder = nn.Identity()
