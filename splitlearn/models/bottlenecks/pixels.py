"""Encoder from pixels: replaces the head of a network and the bottleneck's encoder together."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from splitlearn.models.bottlenecks.bottleneck import Bottleneck, FeatureShape, checked_channels
from splitlearn.models.bottlenecks.residual import ResidualUnit, check_units, gained_norm, normalized, transposed

__all__ = ["PixelBottleneckFactory", "PixelEncoder"]

Pair = tuple[int, int]


class PixelEncoder(Bottleneck):
    """Bottleneck whose encoder takes the image and whose decoder gives the features of a network at its cut.

        encoder: image (3, H, W) → P×P, stride P, to w → D residual units → K×K, stride S/P, to C_r → norm with a gain
        decoder: latent (C_r, ⌈H/S⌉, ⌈W/S⌉) → K×K transposed, to w_d and the features' size → D_d residual units
                 → 1×1 to C → PReLU, features (C, h, w)

    The patches of P×P pixels do not overlap, so that the device computes little: with the defaults, 27 million
    multiply–accumulates for 224×224 pixels. The image is padded with zeros below and on the right to whole patches.
    K is 3 in an encoder up to twice the patch, otherwise 2·S/P − 1, so that every patch is covered; in the decoder it
    is twice the stride plus 1. Where the features are smaller than the latent, the decoder follows with a strided
    convolution. At test time the norms fold into the convolutions.

    Args:
        image_shape: `(3, H, W)` of the images that the encoder takes.
        feature_shape: `(C, h, w)` of the features at the cut, which the decoder gives.
        channels: C_r, channels of the latent.
        width: w, channels inside the encoder.
        depth: D, number of residual units of the encoder.
        stride: S, by which the latent is smaller than the image, rounded up; a multiple of `patch`.
        gain: standard deviation of the latent when training starts, in units of the quantizer's input.
        patch: P, side of the patches of pixels.
        decoder_width: w_d, channels inside the decoder.
        decoder_depth: D_d, number of residual units of the decoder.

    Raises:
        ValueError: if image or features are not `(C, H, W)`, a number is not positive or a depth is negative, `stride`
            is no multiple of `patch`, or larger than the image.
    """

    def __init__(
        self,
        image_shape: FeatureShape,
        feature_shape: FeatureShape,
        channels: int = 96,
        width: int = 48,
        depth: int = 2,
        stride: int = 16,
        gain: float = 4.0,
        patch: int = 8,
        decoder_width: int = 96,
        decoder_depth: int = 3,
    ) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = tuple(image_shape), tuple(feature_shape)
        self.shape = self.image_shape
        self.channels, self.width, self.depth, self.stride, self.gain = channels, width, depth, stride, gain
        self.patch, self.decoder_width, self.decoder_depth = patch, decoder_width, decoder_depth
        checked_channels(self.image_shape, channels, stride)
        checked_channels(self.feature_shape, channels, 1)
        check_units(width, depth)
        check_units(decoder_width, decoder_depth)
        if patch < 1 or stride % patch:
            raise ValueError(f"stride must be a multiple of patch, got stride={stride}, patch={patch}")
        colours, height, columns = self.image_shape
        left = stride // patch
        kernel = max(3, 2 * left - 1)  # as of a ResidualBottleneck: every patch is seen
        self.encoder = nn.Sequential(
            *_padded(-height % patch, -columns % patch),
            nn.Conv2d(colours, width, patch, patch, bias=False),
            *normalized(width),
            *(ResidualUnit(width) for _ in range(depth)),
            nn.Conv2d(width, channels, kernel, left, padding=kernel // 2, bias=False),
            gained_norm(channels, gain),
        )
        latent = (-(-height // stride), -(-columns // stride))
        resized, size = _resized(channels, decoder_width, latent, self.feature_shape[1:])
        below, right = (held - kept for held, kept in zip(size, self.feature_shape[1:], strict=True))
        self.decoder = nn.Sequential(
            *resized,
            *_padded(-below, -right),
            *(ResidualUnit(decoder_width) for _ in range(decoder_depth)),
            nn.Conv2d(decoder_width, self.feature_shape[0], 1),
            nn.PReLU(self.feature_shape[0], init=1.0),
        )


PixelBottleneckFactory = Callable[[FeatureShape, FeatureShape], Bottleneck]
"""A bottleneck from pixels with all arguments set except the shapes of image and features, which the cut determines."""


def _resized(inputs: int, outputs: int, latent: Pair, wanted: tuple[int, ...]) -> tuple[list[nn.Module], Pair]:
    """Return layers from a latent's size to one that holds the wanted one, and that size.

    A transposed convolution widens to the wanted size if it can, otherwise to the next larger; a strided one narrows.
    """
    up = [max(1, -(-target // size)) for size, target in zip(latent, wanted, strict=True)]
    least = [(size - 1) * factor + 1 for size, factor in zip(latent, up, strict=True)]
    widened = [max(low, target) for low, target in zip(least, wanted, strict=True)]
    missing = (widened[0] - least[0], widened[1] - least[1])
    layers = transposed(inputs, outputs, (up[0], up[1]), missing)
    down = [max(1, size // target) for size, target in zip(widened, wanted, strict=True)]
    if max(down) > 1:
        kernel, stride = (2 * down[0] + 1, 2 * down[1] + 1), (down[0], down[1])
        layers += [nn.Conv2d(outputs, outputs, kernel, stride, padding=stride, bias=False)]
        layers += normalized(outputs)
    return layers, (-(-widened[0] // down[0]), -(-widened[1] // down[1]))


def _padded(below: int, right: int) -> list[nn.Module]:
    """Return a layer that adds rows and columns of zeros, or removes as many; none if there is nothing to do."""
    return [nn.ZeroPad2d((0, right, 0, below))] if below or right else []
