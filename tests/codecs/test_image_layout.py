"""Files that ask a decoder for more than their size says never reach one; what `ImageFile` writes always does."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitlearn.codecs import CodecError
from splitlearn.codecs.image_layout import LAYOUTS, check_layout
from splitlearn.models import ImageFile

SIDE = 48
GREY = np.tile(np.arange(SIDE, dtype=np.uint8) * 5, (SIDE, 1))


def written(format: str, **how: Any) -> bytes:
    """Return a file that Pillow writes otherwise than `ImageFile` does."""
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, format, **how)
    return file.getvalue()


def scans() -> bytes:
    """Return a JPEG of two scans, each of which is decoded."""
    file = ImageFile("JPEG").encode(GREY)
    return file[:-2] + file[file.index(b"\xff\xda") :]


def exif() -> bytes:
    exif = Image.Exif()
    exif[270] = "text"
    return written("JPEG", exif=exif)


def segments() -> bytes:
    """Return a JPEG that begins with many tables."""
    file = ImageFile("JPEG").encode(GREY)
    start = file.index(b"\xff\xdb")
    return file[:start] + file[start : start + 69] * 20 + file[start:]


def coded(**fields: int) -> Callable[[], bytes]:
    """Return a maker of a JPEG 2000 that claims other ways of coding: layers, precincts, blocks."""

    def make() -> bytes:
        file = bytearray(ImageFile("JPEG2000", 40).encode(GREY))
        start = file.index(b"\xff\x52") + 4
        if "layers" in fields:
            struct.pack_into(">H", file, start + 2, fields["layers"])
        if "precincts" in fields:  # one size for each of six resolutions
            file[start] = 1
            file[start + 10 : start + 10] = bytes([fields["precincts"]] * 6)
            struct.pack_into(">H", file, start - 2, 18)
        if "block" in fields:
            file[start + 6 : start + 8] = bytes([fields["block"]] * 2)
        return bytes(file)

    return make


def tiles() -> bytes:
    """Return a JPEG 2000 of tiles of 1×1."""
    file = bytearray(ImageFile("JPEG2000", 40).encode(GREY))
    struct.pack_into(">II", file, 24, 1, 1)
    return bytes(file)


def tile_head() -> bytes:
    """Return a JPEG 2000 whose tile says by itself how it is coded, with many layers."""
    file = coded(layers=9)()
    start, tile = file.index(b"\xff\x52"), file.index(b"\xff\x90") + 12
    coding = file[start : start + 14]
    honest = ImageFile("JPEG2000", 40).encode(GREY)
    longer = struct.pack(">I", len(honest) - tile + 10 + len(coding))
    return honest[: tile - 6] + longer + honest[tile - 2 : tile] + coding + honest[tile:]


def steps() -> bytes:
    """Return a JPEG 2000 of more bit planes than eight bits have."""
    file = bytearray(ImageFile("JPEG2000", 40).encode(GREY))
    file[file.index(b"\xff\x5c") + 5] = 0xFF
    return bytes(file)


def larger(format: str) -> Callable[[], bytes]:
    """Return a maker of a file that says that its picture is smaller than it is."""

    def make() -> bytes:
        file = ImageFile(format).encode(GREY)
        at = file.index(b"ispe") + 8
        return file[:at] + struct.pack(">II", 8, 8) + file[at + 8 :]

    return make


def pictures() -> bytes:
    """Return an AVIF of two pictures, one after the other."""
    file = bytearray(ImageFile("AVIF").encode(GREY))
    start = file.index(b"mdat") + 4
    data = file[start:]
    place = file.index(b"iloc") + 22
    struct.pack_into(">I", file, place, 2 * len(data))
    struct.pack_into(">I", file, start - 8, 2 * len(data) + 8)
    return bytes(file + data)


def two_items(format: str) -> Callable[[], bytes]:
    def make() -> bytes:
        file = bytearray(ImageFile(format).encode(GREY))
        at = file.index(b"infe")
        file[at + 12 : at + 16] = b"grid"
        return bytes(file)

    return make


def run_lengths() -> bytes:
    """Return a BMP of run lengths."""
    file = bytearray(ImageFile("BMP").encode(GREY))
    file[30] = 1
    return bytes(file)


def chunks() -> bytes:
    """Return a WebP with a chunk that no decoder reads."""
    file = written("WEBP") + b"JUNK\4\0\0\0abcd"
    return file[:4] + struct.pack("<I", len(file) - 8) + file[8:]


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "scans": ("JPEG", scans),
    "progressive": ("JPEG", lambda: written("JPEG", progressive=True)),
    "exif": ("JPEG", exif),
    "segments": ("JPEG", segments),
    "layers": ("JPEG2000", coded(layers=65_535)),
    "precincts": ("JPEG2000", coded(precincts=0)),
    "blocks": ("JPEG2000", coded(block=0)),
    "tiles": ("JPEG2000", tiles),
    "layers of a tile": ("JPEG2000", tile_head),
    "bit planes": ("JPEG2000", steps),
    "file of code streams": ("JPEG2000", lambda: written("JPEG2000")),
    "larger inside": ("AVIF", larger("AVIF")),
    "many AVIF": ("AVIF", pictures),
    "grid AVIF": ("AVIF", two_items("AVIF")),
    "grid HEIC": ("HEIC", two_items("HEIC")),
    "lossless": ("WEBP", lambda: written("WEBP", lossless=True)),
    "bytes behind": ("WEBP", lambda: written("WEBP") + bytes(10)),
    "another chunk": ("WEBP", chunks),
    "animation": ("WEBP", lambda: written("WEBP", save_all=True, append_images=[Image.new("L", (SIDE, SIDE))])),
    "run lengths": ("BMP", run_lengths),
    "text": ("PPM", lambda: b"P3 2 2 255\n" + b"7 " * 12),
    "other maximum": ("PPM", lambda: b"P6 2 2 254\n" + bytes(12)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_laid_out_otherwise_meets_no_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format, make = BOMBS[name]
    payload = make()
    monkeypatch.setattr(ImageFile, "_open", None)
    with pytest.raises(CodecError, match=f"^payload is no readable {format} file: only the layout of ImageFile"):
        ImageFile(format).decode(payload)


def test_a_larger_picture_inside_is_refused_by_libheif() -> None:
    file = ImageFile("HEIC").encode(np.zeros((512, 512), np.uint8))
    at = file.index(b"ispe") + 8
    with pytest.raises(CodecError, match=r"no readable HEIC file: .*exceeds the maximum image size"):
        ImageFile("HEIC").decode(file[:at] + struct.pack(">II", 8, 8) + file[at + 8 :])


@pytest.mark.parametrize("format", LAYOUTS)
@pytest.mark.parametrize("quality", [1, 60, 100])
def test_what_is_written_is_taken(format: str, quality: int) -> None:
    random = np.random.default_rng(quality)
    for height, width in ((1, 1), (3, 2), (33, 65), (300, 200)):
        for shape in ((height, width), (height, width, 3)):
            check_layout(format, ImageFile(format, quality).encode(random.integers(0, 256, shape, np.uint8)))


@pytest.mark.parametrize("format", LAYOUTS)
def test_what_ends_early_is_refused_or_left_to_the_decoder(format: str) -> None:
    payload, codec = ImageFile(format).encode(GREY), ImageFile(format)
    for end in range(0, min(len(payload), 400), 3):
        with suppress(CodecError):
            assert codec.decode(payload[:end]).shape == GREY.shape
