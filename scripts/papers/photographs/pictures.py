"""Pictures at the network's input size, which a device could send in place of a payload."""

from __future__ import annotations

import io
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from splitlearn.codecs import ImageCodec

QUALITIES = {  # of the formats that are measured
    "AVIF": (25, 30, 35, 40, 45, 50, 55, 65, 75, 85),
    "WebP": (5, 30, 50, 70, 80, 90),
    "JPEG": (10, 20, 30, 45, 60, 75, 85, 92),
    "HEIC": (25, 40, 55, 65, 75),
}
TABLES_KNOWN = "JPEG, tables known"
PICTURES = (*QUALITIES, TABLES_KNOWN)  # all ways of sending pictures
START_OF_SCAN = 0xDA
END = b"\xff\xd9"


def bytes_of(images: Tensor) -> list[NDArray[np.uint8]]:
    """Return images `(B, 3, H, W)` in [0, 1] as arrays `(H, W, 3)` of bytes."""
    return list((255 * images).round().byte().permute(0, 2, 3, 1).contiguous().numpy())


class BareJpeg(ImageCodec):
    """JPEG without what all files of one size and quality have in common, since both sides know it.

    Headers, tables of the quantizer and the standard's Huffman tables, some 620 bytes, are left out of payloads.

    Args:
        quality: 0…100.
        size: height and width of all images.
    """

    def __init__(self, quality: int, size: int) -> None:
        self.quality, self.size = quality, size

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the scan of one image; raises ValueError if it has another size."""
        if image.shape != (self.size, self.size, 3):
            raise ValueError(f"images are {self.size}×{self.size} with three channels, got {image.shape}")
        return self._file(image)[len(self._common) : -len(END)]

    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the image; of a damaged scan, another one."""
        with Image.open(io.BytesIO(self._common + payload + END), formats=["JPEG"]) as file:
            return np.asarray(file.convert("RGB"))

    def _file(self, image: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=self.quality)
        return file.getvalue()

    @cached_property
    def _common(self) -> bytes:
        """All segments up to the scan."""
        file, place = self._file(np.zeros((self.size, self.size, 3), np.uint8)), 2
        while True:
            marker, length = file[place + 1], int.from_bytes(file[place + 2 : place + 4])
            place += 2 + length
            if marker == START_OF_SCAN:
                return file[:place]
