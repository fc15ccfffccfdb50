"""Cut network with features sent as one picture, compressed by an image or video codec."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from splitlearn.codecs import Codec, CodecError, ImageCodec
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.images import Normalize
from splitlearn.models.pipelines.cut_model import CoderModel
from splitlearn.models.pipelines.device_steps import HeadStep
from splitlearn.numpy_quantizers import EvenGrid
from splitlearn.outputs import Features
from splitlearn.quantizers import Quantizer


class TiledFeatures(CoderModel):
    """A frozen cut network with features sent as one grey picture in a lossy image format.

        images → normalize → head → quantize → tile → image file ═ payload ═ image file → untile → dequantize → tail

    The symbols of each crossing float tensor are scaled to 0…255 and its channels tiled into a picture, which is coded
    as a file. The edge server divides the decoded picture into channels again and rounds to the nearest symbols.
    Integer tensors cross unchanged. Payloads are those of a `SplitModel` with the file in place of the code: shape, the
    quantizer's floats and a checksum are counted.

    Nothing is trained. `run` only quantizes: the loss of the image format shows in `decompress`, that is in tests but
    not in validation.

    Args:
        net: the cut network, from `splitlearn.models.split`; it becomes frozen.
        quantizer: floats to symbols; one for all crossing float tensors, or a list with one for each. Use 8 bits to
            leave most of the loss to the image format. Smooth pictures need symbols in the order of values: the zig-zag
            order of `Step` is undone, a quantizer without a grid must have ascending levels.
        image_codec: the file format, `ImageFile("HEIC", quality)` for HEVC.
        normalize: applied to images in [0, 1] before the head; None for no normalization.

    Raises:
        ValueError: if the number of quantizers differs from the number of crossing float tensors.

    Reference:
        Baseline of Cohen, Choi & Bajić 2020: HEVC on tiled feature tensors.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        image_codec: ImageCodec,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__(freeze(net), normalize)
        self.image_codec = image_codec
        codec: Codec | list[Codec]
        if isinstance(quantizer, Quantizer):
            codec = _Mosaic(image_codec, ranking_of(quantizer))
        else:
            codec = [_Mosaic(image_codec, ranking_of(each)) for each in quantizer]
        self.coder = FeatureCoder(net, quantizer, codec)

    def device_steps(self) -> list[HeadStep]:
        """Return nothing: image codecs are not part of device packages."""
        return []

    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Check nothing: the image format may be lossy, and its loss shows in the results."""


class _Mosaic(Codec):
    """Lossy codec of symbols as a grey picture in an image format; `ranking` is their rank in the order of values."""

    def __init__(self, image_codec: ImageCodec, ranking: NDArray[np.uint8]) -> None:
        self.image_codec, self.ranking = image_codec, ranking

    @cached_property
    def identity(self) -> int:
        """32-bit checksum of the image codec and its arguments."""
        return zlib.crc32(repr((self.image_codec, self.ranking.tolist())).encode())

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        return self.image_codec.encode(picture_of(symbols, levels, self.ranking))

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        count, height, width = _planes(shape)
        pixels = math.prod(_layout(count)) * height * width
        picture = self.image_codec.limited(pixels).decode(payload.tobytes())
        if picture.ndim == 3:  # a format without grey images
            picture = np.asarray(Image.fromarray(picture).convert("L"))
        return symbols_of(picture, shape, levels, self.ranking)


def picture_of(symbols: NDArray[np.uint8], levels: int, ranking: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return symbols, whose order of values is `ranking`, scaled to 0…255 and tiled."""
    grey = np.rint(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)
    return tile(grey[ranking[symbols]])


def symbols_of(
    picture: NDArray[np.uint8], shape: tuple[int, ...], levels: int, ranking: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the symbols nearest to the pixels of a picture of `picture_of`; raises CodecError if its size differs."""
    nearest = np.rint(np.arange(256) * ((levels - 1) / 255)).astype(np.uint8)
    symbols = np.argsort(ranking).astype(np.uint8)[nearest]
    try:
        return np.take(symbols, untile(picture, shape))
    except ValueError as error:
        raise CodecError(f"the payload's header contradicts its picture: {error}") from error


def tile(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the channels of one feature tensor as a picture, row by row.

    The mosaic has about as many columns as rows, or up to four times as many if that leaves fewer empty places: 32
    channels make 4 rows of 8, 65 make 5 rows of 13. Empty places come last and are black.

    Args:
        channels: uint8 `(C, H, W)`; a vector `(C,)` counts as C channels of one pixel, a matrix `(H, W)` as one
            channel, and all dimensions before the last two are flattened into channels.

    Returns:
        The picture, uint8 `(rows · H, columns · W)`.
    """
    count, height, width = _planes(channels.shape)
    rows, columns = _layout(count)
    places = np.zeros((rows * columns, height, width), np.uint8)
    places[:count] = channels.reshape(count, height, width)
    picture = places.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(picture.reshape(rows * height, columns * width))


def untile(picture: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the channels, of `shape`, of a picture of `tile`, uint8 `(rows · H, columns · W)`.

    Raises ValueError if the picture does not have the size for this shape.
    """
    count, height, width = _planes(shape)
    rows, columns = _layout(count)
    if picture.shape != (rows * height, columns * width):
        expected = f"{rows * height}×{columns * width}"
        raise ValueError(f"features {shape} are a picture of {expected} pixels, this one is of shape {picture.shape}")
    places = picture.reshape(rows, height, columns, width).transpose(0, 2, 1, 3)
    return places.reshape(rows * columns, height, width)[:count].reshape(shape)


def _planes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return number, height and width of the channels of a tensor."""
    if len(shape) < 2:
        return math.prod(shape), 1, 1
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def _layout(channels: int) -> tuple[int, int]:
    """Return rows and columns of the mosaic: √channels to 2√channels columns, with the fewest empty places."""
    narrowest = math.isqrt(max(channels, 1) - 1) + 1
    columns = min(range(narrowest, 2 * narrowest + 1), key=lambda width: -channels % width)
    return -(-channels // columns), columns


def ranking_of(quantizer: Quantizer) -> NDArray[np.uint8]:
    """Return the rank of each symbol in the order of dequantized values."""
    if not isinstance(quantizer.grid, EvenGrid):
        return np.arange(quantizer.levels).astype(np.uint8)
    values = quantizer.grid.values(quantizer.grid.side_floats((0.0, 1.0)))
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.uint8)
