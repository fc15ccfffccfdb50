"""Image files to 8-bit colours: the one way in which pictures, of whatever kind, become what a network is shown.

| a file holds | what becomes of it |
|---|---|
| 8-bit colours | taken as they are; grey, palettes, CMYK, YCbCr and HSV are converted |
| 16-bit colours | the upper eight bits |
| 16-bit grey, or 12 to 16 bits in TIFF | scaled so that the largest value of that many bits is 255 |
| transparency | laid on white, what the palette or the transparent pixels hide never shows |
| an EXIF orientation | turned and mirrored to be upright, in every format; unreadable EXIF counts as none |
| several pictures (animations, pages, MPO) | the first one |
| a colour profile, gamma | not applied: numbers are taken for sRGB, as other frameworks take them |
| floats, 32-bit or signed integers, CIELAB | refused: no range is stated, or there is no one way |
| a GIF whose first picture leaves a part of it empty | white there if it has a transparent colour, else refused |
| a transparent colour beside grey of 2, 4 or 16 or colours of 16 bits | refused |
| damage, a wrong end, no bytes, more than 179 million pixels | refused |

What a file is, is seen from its content, not from its suffix, and only the formats in `FORMATS` are looked for: no file
makes Pillow call another program. Masks hold numbers, not colours: `splitlearn.data.masks.read_ids` reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from splitlearn.data.errors import DataError
from splitlearn.shortage import of_machine

__all__ = ["FORMATS", "decode_rgb", "opened", "orientation", "shown_shape", "stored_as"]

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


def decode_rgb(file: Path) -> Image.Image:
    """Return an image file's content as 8-bit RGB, upright, by the rules that this file begins with.

    Raises:
        DataError: the file is no image, is damaged, or holds what the rules refuse.
    """
    try:
        with opened(file) as image:
            raw_mode, is_covered = stored_as(image), _covers(image)
            image.load()
            if not (is_covered or image.has_transparency_data):
                raise _Refused("a first picture smaller than the whole, and no transparent colour for the rest")
            turn = TURNS.get(orientation(image))
            colours = _colours(image, raw_mode)
        return colours if turn is None else colours.transpose(turn)
    except _Refused as error:
        raise DataError(f"{file} holds {error}: save it as 8-bit PNG or JPEG, or remove it") from error
    except Exception as error:  # of damaged files, decoders raise almost anything
        if of_machine(error):
            raise
        raise DataError(f"cannot decode {file}, remove or replace it ({error})") from error


def shown_shape(file: Path) -> tuple[int, int]:
    """Return height and width of an image as `decode_rgb` turns it, from the head of its file.

    Raises:
        DataError: the file is no image.
    """
    try:
        with opened(file) as image:
            turned = image.format != "TIFF" and orientation(image) >= FIRST_TURNED  # Pillow turns TIFF by itself
            return image.size if turned else (image.height, image.width)
    except Exception as error:
        if of_machine(error):
            raise
        raise DataError(f"cannot decode {file}, remove or replace it ({error})") from error


def opened(file: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open an image file by its content, in one of some formats.

    Raises:
        Exception: of any class: the file is absent, empty or damaged.
    """
    Image.init()  # returns at once but for the first time
    image = Image.open(file, formats=[name for name in formats if name in Image.OPEN])
    image.filename = ""  # what has a name is mapped into memory by Pillow, turned TIFF with height and width swapped
    return image


def stored_as(image: Image.Image) -> str:
    """Return how an opened image's pixels are packed in its file, in Pillow's words; "" once it is loaded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return str(tiles[0].args) if tiles else ""


def _covers(image: Image.Image) -> bool:
    """Whether the first picture of an opened GIF covers it; other formats state what lies around."""
    if image.format != "GIF" or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return True
    return tuple(image.tile[0].extents or ()) == (0, 0, *image.size)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image, 1…8; 1 is upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # of damaged EXIF in a sound file
        if of_machine(error):
            raise
        return 1
    return found if isinstance(found, int) else 1


class _Refused(ValueError):
    """What a file holds that the rules refuse."""


def _colours(image: Image.Image, raw_mode: str) -> Image.Image:
    if image.format == "TIFF":
        formats = image.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))  # type: ignore[attr-defined]
        if set(formats) != {UNSIGNED}:
            raise _Refused("numbers with a sign or a fraction, whose range is not stated")
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
        raise _Refused(f"pixels of the mode {image.mode}, for which there is no one range")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """Return grey of up to 16 bits in eight."""
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    largest = (1 << tags.get(BITS, (16,))[0]) - 1
    scaled = (np.asarray(image).astype(np.uint32) * 510 + largest) // (2 * largest)
    grey = scaled.clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)
