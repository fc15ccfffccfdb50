"""Whole images as files, for a server that runs the whole network: the other way to send what a device sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.codecs import CodecError, ImageFile
from splitlearn.codecs.image_layout import LAYOUTS, format_of


class OtherFormatError(CodecError):
    """An image file is sound, and of another format than a package's."""


@dataclass(frozen=True)
class Measured:
    """What a way to send images comes to on the images of a package's check.

    Attributes:
        score: mean agreement of its answers with those of the unsplit network, 0…1.
        bytes_per_image: mean size in bytes.
    """

    score: float
    bytes_per_image: float


@dataclass(frozen=True)
class PictureCodec:
    """Files of images of the network's size, in one format.

    Attributes:
        format: name of the format, as for `ImageFile`.
        quality: on the scale of the format.
        image_shape: `(C, H, W)` of the network's input.
        measured: score and size of these files; None if not known.
        rates: the same of each rate of the package, on the same images; empty if not known. Scores of a package's
            `rates` are of another kind, so that they cannot be compared with that of a file.
    """

    format: str
    quality: int
    image_shape: tuple[int, ...]
    measured: Measured | None = None
    rates: tuple[Measured, ...] = ()

    @property
    def name(self) -> str:
        """Return format and quality, as in profiles of latencies."""
        return f"{self.format} {self.quality}"

    @cached_property
    def files(self) -> ImageFile:
        """The codec; it decodes no file of another size than the network's input.

        Raises:
            ValueError: if the installed Pillow does not write the format.
            ImportError: if the format is HEIC and pillow-heif is not installed.
        """
        return _OfOneSize(self.format, self.quality, *self.image_shape[1:])

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the file of an image, uint8 `(H, W, C)` of the network's size; raise ValueError if it has another."""
        channels, height, width = self.image_shape
        if image.shape != (height, width, channels):
            raise ValueError(
                f"pictures of this package are {(height, width, channels)}, got {image.shape}: prepare the image first"
            )
        return self.files.encode(image[:, :, 0] if channels == 1 else image)

    def decode(self, file: bytes) -> NDArray[np.uint8]:
        """Return the image in a file, uint8 `(H, W, C)` of the network's size.

        Raises:
            OtherFormatError: if the file is of another format.
            CodecError: if it is damaged or of another size; its pixels are not decoded if its header says so.
        """
        channels, height, width = self.image_shape
        if (found := format_of(file)) not in (None, self.format):
            raise OtherFormatError(f"pictures of this package are {self.format}, and this one is {found}")
        pixels = self.files.decode(file)
        if channels == 1 and pixels.ndim == 3:  # WebP has no grey images
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))
        image = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if image.shape != (height, width, channels):
            raise CodecError(
                f"the picture has the shape {image.shape}, and the network takes {(height, width, channels)}: prepare "
                "it before it is sent"
            )
        return image

    def record(self) -> dict[str, Any]:
        """Return the entry of a manifest."""
        known = [] if self.measured is None else [self.measured, *self.rates]
        return {
            "format": self.format,
            "quality": self.quality,
            "measured": [{"score": each.score, "bytes_per_image": each.bytes_per_image} for each in known],
        }

    @classmethod
    def of(cls, about: Mapping[str, Any], image_shape: tuple[int, ...], rates: int) -> PictureCodec:
        """Return the codec of a manifest's entry.

        Args:
            about: the entry, of a file that is not trusted.
            image_shape: `(C, H, W)` of the network's input.
            rates: number of rates of the package.

        Raises:
            ValueError: if the entry is not one that `record` makes.
        """
        name, quality, known = about["format"], about["quality"], _measured(about["measured"])
        known_format = isinstance(name, str) and name in LAYOUTS
        in_range = type(quality) is int and 0 <= quality <= 100
        if not known_format or not in_range or len(known) not in (0, rates + 1):
            raise ValueError(f"it describes no pictures: {str(dict(about))[:80]}")
        return cls(name, quality, image_shape, known[0] if known else None, tuple(known[1:]))


class _OfOneSize(ImageFile):
    """Image files of one size; of others, no pixel is decoded."""

    def __init__(self, format: str, quality: int, height: int, width: int) -> None:
        super().__init__(format, quality)
        self.height, self.width = height, width

    def check_size(self, height: int, width: int) -> None:
        """Raise CodecError for any other size."""
        if (height, width) != (self.height, self.width):
            raise CodecError(
                f"the picture has {height}×{width} pixels, and the network takes {self.height}×{self.width}: prepare "
                "it before it is sent"
            )


def _measured(entries: Sequence[Mapping[str, Any]]) -> list[Measured]:
    found = [(each["score"], each["bytes_per_image"]) for each in entries]
    if not all(type(number) in (int, float) for pair in found for number in pair):
        raise ValueError("scores and sizes of pictures are numbers")
    if not all(0 <= score <= 1 and 0 <= size < math.inf for score, size in found):
        raise ValueError("scores of pictures are 0 to 1, and sizes are finite")
    return [Measured(float(score), float(size)) for score, size in found]


def pixels_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images, uint8 `(B, H, W, C)`, as a network takes them, float32 `(B, C, H, W)` in [0, 1]."""
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    batch /= np.float32(255)
    return batch
