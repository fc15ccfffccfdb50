"""Decoding of image files to 8-bit RGB, by the same rules for all networks.

| content of the file | result |
|---|---|
| 8-bit colours | unchanged; grey, palettes, CMYK, YCbCr and HSV are converted |
| 16-bit colours | the upper eight bits |
| 16-bit grey, or 12 to 16 bits in TIFF | scaled, with 255 for the largest value of that number of bits |
| transparency | composed with white; hidden colours of transparent pixels never show |
| an EXIF orientation | turned and mirrored to be upright, in every format; unreadable EXIF is ignored |
| several pictures (animations, pages, MPO) | the first one |
| a colour profile, gamma | ignored; values are treated as sRGB, as in other frameworks |
| floats, 32-bit or signed integers, CIELAB | refused, since the range is unknown or the conversion ambiguous |
| a GIF whose first picture does not cover it | white there if it has a transparent colour, else refused |
| a transparent colour with 2-, 4- or 16-bit grey or 16-bit colours | refused |
| damaged, truncated or empty files, more than 179 million pixels | refused |

Files are recognized by content, not by suffix, and only as one of `FORMATS`, so that Pillow calls no other program.
Masks hold numbers, not colours, and are read by `splitlearn.data.masks.read_ids`. Of videos, `video_frames_in` tells
whether all of the file was there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from splitlearn.resource_errors import of_machine, raised_as

__all__ = ["FORMATS", "DataError", "decode_rgb", "opened", "orientation", "shown_shape", "stored_as", "video_frames_in"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF", "AVIF", "JPEG2000")  # MPO is a kind of JPEG
CONVERTED = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}
KEYS_BEFORE_SCALING = {"L;2", "L;4", "I;16B", "RGB;16B"}  # a PNG's transparent colour is not scaled with its pixels
ORIENTATION, FIRST_TURNED = 0x0112, 5  # EXIF's tag, and the first of its values that swap width and height
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
UNSIGNED, WHITE_IS_ZERO = 1, 0
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


ANNOUNCING = {"matroska", "webm", "mov", "mp4"}  # FFmpeg's names of formats with a duration in the header; not a guess


class DataError(RuntimeError):
    """A data set or image is missing, empty, damaged or inconsistent; the message names the remedy."""


def decode_rgb(file: Path) -> Image.Image:
    """Return the image of a file as 8-bit RGB, upright, by the rules of this module.

    Raises DataError if the file is no image, is damaged, or is refused by the rules.
    """
    with _damage_told(file), opened(file) as image:
        raw_mode, is_covered = stored_as(image), _covers(image)
        image.load()
        if not (is_covered or image.has_transparency_data):
            raise _Refused("a first picture smaller than the whole, and no transparent colour for the rest")
        turn = TURNS.get(orientation(image))
        colours = _colours(image, raw_mode)
        return colours if turn is None else colours.transpose(turn)


def shown_shape(file: Path) -> tuple[int, int]:
    """Return height and width that `decode_rgb` would give, from the file's header; raises DataError if it has none."""
    with _damage_told(file), opened(file) as image:
        turned = image.format != "TIFF" and orientation(image) >= FIRST_TURNED  # Pillow itself turns TIFF
        return image.size if turned else (image.height, image.width)


def opened(file: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open an image file by its content, in one of some formats; raises anything if it is absent, empty or damaged."""
    Image.init()  # does nothing after the first call
    image = Image.open(file, formats=[name for name in formats if name in Image.OPEN])
    image.filename = ""  # Pillow maps files with a name into memory, turned TIFF with height and width swapped
    return image


def stored_as(image: Image.Image) -> str:
    """Return Pillow's name of the pixel format in the file of an opened image; "" once it is loaded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return str(tiles[0].args) if tiles else ""


def _covers(image: Image.Image) -> bool:
    """Return whether the first picture of an opened GIF covers it; True for other formats."""
    if image.format != "GIF" or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return True
    return tuple(image.tile[0].extents or ()) == (0, 0, *image.size)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1…8; 1 is upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # damaged EXIF in a valid file
        if of_machine(error):
            raise
        return 1
    return found if isinstance(found, int) else 1


def video_frames_in(container: Any) -> Iterator[Any]:
    """Yield the decoded frames of the first video stream of an open PyAV container.

    Raises:
        DataError: once the file turns out to be truncated, with the reason only; what PyAV raises passes through.
    """
    stream, reached = container.streams.video[0], 0.0
    for packet in container.demux():
        if packet.pts is not None and packet.duration:
            reached = max(reached, float((packet.pts + packet.duration) * packet.time_base))
        if packet.stream.index != stream.index:
            continue
        if packet.is_corrupt:
            raise DataError("a packet is truncated")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise DataError("a frame is incomplete")
            yield frame
    if missing := _missing(container, reached):
        raise DataError(f"{missing:.1f} s are missing at its end")


def _missing(container: Any, reached: float) -> float:
    """Return the seconds by which a file ends before the end that its header announces; 0 for the last tenth."""
    if container.duration is None or not ANNOUNCING.intersection(container.format.name.split(",")):
        return 0.0
    seconds = container.duration / 1e6
    missing = (container.start_time or 0) / 1e6 + seconds - reached
    return float(missing) if missing > min(1.0, 0.1 * seconds) else 0.0


class _Refused(ValueError):
    """Content of a file that the rules refuse."""


def _damage_told(file: Path) -> raised_as:
    """Context manager that raises any error of a decoder as DataError, since damaged files cause almost any error."""

    def convert(error: Exception) -> DataError:
        if isinstance(error, _Refused):
            return DataError(f"{file} holds {error}: save it as 8-bit PNG or JPEG, or remove it")
        return DataError(f"cannot decode {file}, remove or replace it ({error})")

    return raised_as(convert)


def _colours(image: Image.Image, raw_mode: str) -> Image.Image:
    if image.format == "TIFF":
        formats = image.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))  # type: ignore[attr-defined]
        if set(formats) != {UNSIGNED}:
            raise _Refused("signed integers or floats of unknown range")
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM"):
        if "transparency" in image.info:
            raise _Refused("16-bit grey with a transparent value")
        return _grey(image).convert("RGB")
    if image.has_transparency_data:
        if "transparency" in image.info and raw_mode in KEYS_BEFORE_SCALING:
            raise _Refused(f"a transparent value among {raw_mode}")
        pixels = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), pixels).convert("RGB")
    if image.mode not in CONVERTED:
        raise _Refused(f"pixels of the mode {image.mode}, which has no fixed range")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """Return grey of up to 16 bits as 8-bit grey."""
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    largest = (1 << tags.get(BITS, (16,))[0]) - 1
    scaled = (np.asarray(image).astype(np.uint32) * 510 + largest) // (2 * largest)
    grey = scaled.clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)
