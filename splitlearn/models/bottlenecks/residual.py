"""Bottleneck with residual units: stronger than separable units, for a few per cent of a network's arithmetic."""

from __future__ import annotations

from torch import Tensor, nn

from splitlearn.models.bottlenecks.bottleneck import Bottleneck, FeatureShape, checked_channels

__all__ = ["ResidualBottleneck", "ResidualUnit"]


class ResidualUnit(nn.Module):
    """x + body(x), where the body narrows to half the channels, convolves and widens again.

        1×1: w → w/2 → norm, ReLU → 3×3 → norm, ReLU → 1×1: w/2 → w → norm

    Args:
        width: w, channels of input and output.

    Reference:
        He et al. 2022, "ELIC", Fig. 5 (residual bottleneck block), with norms.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(width // 2, 1)
        self.body = nn.Sequential(
            *convolved(width, narrow, 1), *convolved(narrow, narrow, 3), *convolved(narrow, width, 1)[:-1]
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features `(B, w, H, W)` of the same shape."""
        residual: Tensor = self.body(features)
        return features + residual


class ResidualBottleneck(Bottleneck):
    """Unit with full convolutions, residual units on both sides and few channels in between.

        encoder: K×K, stride S, to w → D residual units → 1×1 to C_r → norm with a learnt gain
        decoder: 1×1 to w → 2·D residual units → K×K transposed, stride S, to w/2 → residual unit → 1×1 to C → PReLU

    K is 3 for strides 1 and 2, otherwise 2·S − 1, so that every feature is covered. Each convolution but the last of
    each half has a norm and a ReLU. At test time the norms fold into the convolutions. The PReLU starts as
    the identity and learns whether features may be negative. Nearly all units work at the latent's resolution, where
    they cost little.

    With the default sizes each half takes less than 2 % of the arithmetic of a ResNet-50 at `layer2`, and less than 5 %
    of that of a MobileNetV2 at `features.6`.

    Args:
        shape: `(C, H, W)` of the features at the cut.
        channels: C_r, channels of the latent.
        width: w, channels of the residual units at the latent's resolution.
        stride: S, by which the latent is smaller than the features, rounded up.
        depth: D, number of residual units of the encoder.
        gain: standard deviation of the latent when training starts, in units of the quantizer's input.

    Raises:
        ValueError: if the features are not `(C, H, W)`, `channels`, `width` or `stride` is not positive, `depth` is
            negative, or the stride is larger than the map.
    """

    def __init__(
        self,
        shape: FeatureShape,
        channels: int = 48,
        width: int = 64,
        stride: int = 2,
        depth: int = 1,
        gain: float = 4.0,
    ) -> None:
        super().__init__()
        self.shape, self.channels, self.width, self.stride = tuple(shape), channels, width, stride
        self.depth, self.gain = depth, gain
        features, height, width_of_map = checked_channels(self.shape, channels, stride), *self.shape[1:]
        check_units(width, depth)
        missing = ((height - 1) % stride, (width_of_map - 1) % stride)
        kernel, narrow = max(3, 2 * stride - 1), max(width // 2, 1)
        self.encoder = nn.Sequential(
            *convolved(features, width, kernel, stride),
            *(ResidualUnit(width) for _ in range(depth)),
            nn.Conv2d(width, channels, 1, bias=False),
            gained_norm(channels, gain),
        )
        self.decoder = nn.Sequential(
            *convolved(channels, width, 1),
            *(ResidualUnit(width) for _ in range(2 * depth)),
            nn.ConvTranspose2d(width, narrow, kernel, stride, kernel // 2, missing, bias=False),
            *normalized(narrow),
            ResidualUnit(narrow),
            nn.Conv2d(narrow, features, 1),
            nn.PReLU(features, init=1.0),
        )


def check_units(width: int, depth: int) -> None:
    """Raise ValueError unless width and depth of residual units are possible."""
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got width={width}, depth={depth}")


def convolved(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution with a norm and a ReLU; with an odd kernel, H rows become ⌈H / stride⌉."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [layer, *normalized(outputs)]


def transposed(inputs: int, outputs: int, stride: tuple[int, int], missing: tuple[int, int]) -> list[nn.Module]:
    """Return a transposed convolution with a norm and a ReLU: h rows become (h − 1) · stride + 1 + missing."""
    kernel = (2 * stride[0] + 1, 2 * stride[1] + 1)
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride, stride, missing, bias=False)
    return [layer, *normalized(outputs)]


def normalized(channels: int) -> list[nn.Module]:
    """Return a norm and a ReLU."""
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def gained_norm(channels: int, gain: float) -> nn.BatchNorm2d:
    """Return the norm before a quantizer, whose output has a standard deviation of `gain`, which it learns."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, gain)
    return norm
