"""Codecs of 8-bit images: raw pixels and image file formats."""

from __future__ import annotations

import copy
import io
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.codecs.base import CodecError
from splitlearn.codecs.container import as_bytes, decode_body, pack, read_header
from splitlearn.codecs.image_layout import LAYOUTS, check_layout
from splitlearn.codecs.raw import Raw
from splitlearn.outputs import MAX_PIXELS, init_args, too_many_pixels
from splitlearn.resource_errors import raised_as

HEIC = ("HEIC", "HEIF")  # one format under two names
JPEG_2000 = "JPEG2000"


class ImageCodec(ABC):
    """Codec of 8-bit images.

    A codec keeps each constructor argument as an attribute of the same name; `TiledFeatures` identifies codecs by them.

    Attributes:
        max_pixels: largest number of pixels of an image; may be set. A payload that claims more is not decoded.
    """

    max_pixels: int = MAX_PIXELS

    @abstractmethod
    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the payload of one image, `(H, W, 3)` or grey `(H, W)`."""

    @abstractmethod
    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the image `(H, W, 3)` or `(H, W)` of one payload; raise CodecError if it is damaged or too large."""

    def limited(self, pixels: int) -> Self:
        """Return a copy of this codec with another limit `max_pixels`."""
        other = copy.copy(self)
        other.max_pixels = pixels
        return other

    def check_size(self, height: int, width: int) -> None:
        """Raise CodecError unless an image has between 1 and `max_pixels` pixels."""
        if min(height, width) < 1:
            raise CodecError(f"the payload holds an image of {height}×{width} pixels")
        if height * width > self.max_pixels:
            raise CodecError(f"the payload cannot be decoded: {too_many_pixels(height, width, self.max_pixels)}")

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in init_args(self).items())})"


class Pixels(ImageCodec):
    """Uncompressed pixels: the upper bound of the payload of an unsplit network."""

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the pixels in a container."""
        return pack(image, 256, Raw())

    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the exact pixels."""
        payload = as_bytes(payload)
        header = read_header(payload, Raw())
        if len(header.shape) not in (2, 3) or header.shape[2:] not in ((), (3,)) or header.levels != 256:
            raise CodecError(f"the payload holds no image (H, W, 3) or (H, W), but an array of shape {header.shape}")
        self.check_size(*header.shape[:2])
        return decode_body(payload, header, Raw())


class ImageFile(ImageCodec):
    """An image file format: the baseline of an unsplit network.

    | format | quality | a file's fixed part |
    |---|---|---|
    | `JPEG` | 0…100 | 330 B grey, 630 B colour, most of it tables |
    | `WEBP` | 0…100 | 40 B; stores grey images as colour ones |
    | `AVIF` | 0…100 | 300 B |
    | `JPEG2000` | 1…100: target PSNR in dB, 25 poor, 35 fair, 45 fine, at most about 55 | 120 B |
    | `HEIC` or `HEIF` | 0…100; HEVC intra by x265, with pillow-heif (extra `images`) | 370 to 420 B |
    | `PNG`, `BMP`, `PPM` | without effect: lossless | 70 B, 54 B (grey 1,078 B), 15 B |

    Colour planes of JPEG, WebP, AVIF and HEIC have half the resolution (4:2:0); grey images have no colour planes (in
    HEVC and AV1: 4:0:0). JPEG 2000 is the bare code stream with the irreversible 9-7 wavelet and colour transform. AVIF
    and HEIC sizes may differ by 1 % between machines, because their encoders depend on the number of threads.

    Only files with the layout of this class are decoded (`image_layout`): few bytes of other layouts can cost a decoder
    minutes and gigabytes. Only PNG has a checksum: a damaged file of another format may decode to a wrong image. Below
    64×64 pixels the fixed part dominates the size of a file.

    Args:
        format: name of the format, case-insensitive.
        quality: on the scale of the format, as above.

    Raises:
        ValueError: if the format is unknown or not written by the installed Pillow, or `quality` is not on its scale.
        ImportError: if the format is HEIC and pillow-heif is not installed.
    """

    def __init__(self, format: str = "JPEG", quality: int = 75) -> None:
        Image.init()
        name = format.upper()
        if name in HEIC:
            _pillow_heif()
        elif name not in LAYOUTS or name not in Image.SAVE:
            taken = ", ".join(known for known in LAYOUTS if known in Image.SAVE or known in HEIC)
            raise ValueError(f"images cross as no {format!r}: take one of {taken}")
        if name == JPEG_2000 and not 1 <= quality <= 100:
            raise ValueError(f"quality of {JPEG_2000} is a PSNR from 1 to 100 dB, got {quality}")
        if not 0 <= quality <= 100:
            raise ValueError(f"quality is a number from 0 to 100, got {quality}")
        self.format, self.quality = HEIC[0] if name in HEIC else name, quality

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the file of a uint8 image, `(H, W, 3)` or grey `(H, W)`.

        Raises:
            ValueError: if it is not such an image, or the format does not support its size.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
            raise ValueError(f"an image is uint8 (H, W, 3) or (H, W) and not empty, got {image.dtype} {image.shape}")
        file = io.BytesIO()
        try:
            self._save(np.ascontiguousarray(image), file)
        except (OSError, ValueError, RuntimeError) as error:  # libraries differ in how they refuse a size
            raise ValueError(f"{self.format} holds no image of shape {image.shape}: {error}") from error
        return file.getvalue()

    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the decoded file: `(H, W)` if it is grey, otherwise `(H, W, 3)`.

        Raises:
            CodecError: if it is not a readable file of this format with the layout of `encode`, has more than
                `max_pixels`, transparency, or more than 8 bits per channel.
        """
        payload = as_bytes(payload)
        check_layout(self.format, payload)
        # decoders raise almost anything on damaged bytes
        damaged = raised_as(lambda e: CodecError(f"payload is no readable {self.format} file: {e}"), but=CodecError)
        with damaged, self._open(payload) as image:
            if image.mode not in ("L", "RGB", "P") or image.has_transparency_data:
                told = f"{image.mode}{', partly transparent' * image.has_transparency_data}"
                raise CodecError(f"the payload's pixels are {told}: encode pictures as 8-bit L or RGB")
            return np.asarray(image.convert("RGB") if image.mode == "P" else image)

    def _save(self, image: NDArray[np.uint8], file: io.BytesIO) -> None:
        if self.format in HEIC:
            mode, size = ("L" if image.ndim == 2 else "RGB"), (image.shape[1], image.shape[0])
            _pillow_heif().encode(mode, size, image.tobytes(), file, quality=self.quality)
        elif self.format == JPEG_2000:
            lossy = {"quality_mode": "dB", "quality_layers": [self.quality], "irreversible": True}
            Image.fromarray(image).save(file, self.format, **lossy, mct=int(image.ndim == 3), no_jp2=True)
        else:
            Image.fromarray(image).save(file, self.format, quality=self.quality, optimize=True)

    def _open(self, payload: bytes) -> Image.Image:
        file = io.BytesIO(payload)
        if self.format in HEIC:
            container = _pillow_heif().open_heif(file)
            self.check_size(*container.size[::-1])  # the size in the header, before decoding
            decoded: Image.Image = container.to_pillow()
            return decoded
        opened = Image.open(file, formats=[self.format])
        self.check_size(opened.height, opened.width)
        return opened


def _pillow_heif() -> Any:
    """Return the library without registering it with Pillow, which would affect the whole process."""
    try:
        import pillow_heif  # here, because it is optional
    except ModuleNotFoundError as error:
        raise ImportError("HEIC needs pillow-heif: pip install 'splitlearn[images]'") from error
    return pillow_heif
