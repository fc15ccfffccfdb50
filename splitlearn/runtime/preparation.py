"""Preparation of a photograph for a network with Pillow only: resize, crop and letterbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
MOST_SIDE = 1 << 14  # pixels


class Preparation(ABC):
    """Base class of steps from an RGB picture to the network's input; arguments are attributes, for a manifest."""

    @abstractmethod
    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the prepared picture."""


@dataclass(frozen=True)
class Resize(Preparation):
    """Bilinear resize of the shorter side, with the aspect ratio kept.

    Attributes:
        shorter: length of the shorter side, in pixels.

    Raises:
        ValueError: when called, if the longer side would get more than `MOST_SIDE` pixels.
    """

    shorter: int

    def __post_init__(self) -> None:
        _check(self.shorter)

    def __call__(self, image: Image.Image) -> Image.Image:  # noqa: D102
        width, height = image.size
        longer = int(self.shorter * max(width, height) / min(width, height))
        if longer > MOST_SIDE:  # a strip of pixels, which would take gigabytes
            raise ValueError(
                f"a picture of {width} × {height} pixels would get {longer:,} long, at most {MOST_SIDE:,}: crop it"
            )
        size = (self.shorter, longer) if width <= height else (longer, self.shorter)
        return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class _ToSize(Preparation):
    """Step to a fixed size; raises ValueError if a side is out of range.

    Attributes:
        height: height in pixels.
        width: width in pixels.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        _check(self.height, self.width)


@dataclass(frozen=True)
class ResizeTo(_ToSize):
    """Bilinear resize to a fixed size, without regard to the aspect ratio.

    Attributes:
        height: height in pixels.
        width: width in pixels.
    """

    def __call__(self, image: Image.Image) -> Image.Image:  # noqa: D102
        size = (self.width, self.height)
        return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class CentreCropTo(_ToSize):
    """Crop at the centre; a smaller picture is padded with black.

    Attributes:
        height: height in pixels.
        width: width in pixels.
    """

    def __call__(self, image: Image.Image) -> Image.Image:  # noqa: D102
        wide, high = max(image.width, self.width), max(image.height, self.height)
        if (wide, high) != image.size:
            padded = Image.new(image.mode, (wide, high))
            padded.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
            image = padded
        top, left = round((high - self.height) / 2), round((wide - self.width) / 2)
        return image.crop((left, top, left + self.width, top + self.height))


@dataclass(frozen=True)
class LetterboxTo(_ToSize):
    """Scale to fit a size with the aspect ratio kept, and pad with grey on two sides.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        grey: value of the padding, 0…255.

    Reference:
        The preprocessing of YOLO.
    """

    grey: int = 114

    def __call__(self, image: Image.Image) -> Image.Image:  # noqa: D102
        scale = min(self.width / image.width, self.height / image.height)
        wide, high = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if (wide, high) != image.size:
            image = image.resize((wide, high), Image.Resampling.BILINEAR)
        picture = Image.new("RGB", (self.width, self.height), (self.grey,) * 3)
        picture.paste(image, self._corner(wide, high))
        return picture

    def _corner(self, wide: int, high: int) -> tuple[int, int]:
        """Return the position of the upper left corner of a scaled picture, in pixels."""
        return (self.width - wide) // 2, (self.height - high) // 2


@dataclass(frozen=True)
class FitTo(LetterboxTo):
    """Scale to fit a size with the aspect ratio kept, and pad with grey on the right and below.

    Reference:
        Chen et al. 2017: the longer side has 513 pixels, the rest is padded.
    """

    grey: int = 128

    def _corner(self, wide: int, high: int) -> tuple[int, int]:
        return 0, 0


def _check(*sides: int) -> None:
    if not all(type(side) is int and 1 <= side <= MOST_SIDE for side in sides):
        raise ValueError(f"a side of a picture is 1 to {MOST_SIDE} pixels, got {sides}")
