"""Check of image files: only the layouts that `ImageFile` writes are decoded.

The image size in a file does not bound the work of its decoder; a small hostile file can be very expensive:

| format | decoder supports | accepted here |
|---|---|---|
| JPEG | thousands of scans, each over the whole picture; EXIF of any content | one scan of a baseline JPEG |
| JPEG 2000 | 65,535 layers; precincts and tiles of one pixel | one layer, tile and tile-part; blocks of 64×64 |
| AVIF | pictures larger than stated, or many; grids | one still picture of the stated size |
| HEIC | grids of pictures | one picture; libheif refuses pictures larger than stated |
| WebP | a canvas of any size; a code table for every 16 pixels | the lossy format alone, in one chunk |
| BMP, PPM | run lengths, and numbers as text, both decoded in Python | raw pixels |
| PNG | bounded: Pillow limits texts, the rest follows from the size | any |
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from splitlearn.codecs.base import CodecError

BASELINE = {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}  # markers of a JPEG: JFIF, quantizers, frame, Huffman tables, scan
SCAN = b"\xff\xda"
STREAM = (b"\x51\x52\x5c\x64\x90", b"\x51\x52\x5c\x90")  # markers of JPEG 2000: size, coding, steps, comment, tile
SIZE = re.compile(rb"..(.{8})\0{8}\1\0{8}\0[\x01\x03](?:\x07\x01\x01){1,3}", re.DOTALL)  # one tile, eight bits
CODING = re.compile(rb"\0\0\0\x01[\0\x01][\0-\x05]\x04\x04\0\0")  # one layer, no precincts, blocks of 64×64
STEPS = re.compile(rb"\x42(?:[\0-\x7f].){1,16}", re.DOTALL)  # exponents ≤ 15, which bounds the bit planes
TILE_PART = 12  # bytes of a tile-part header, marker included
SEQUENCE = re.compile(rb"\x12\0\n([\x01-\x7f])")  # AV1: a delimiter, then type and length of a sequence header
FRAME = 0x32  # AV1: type of a whole picture


def check_layout(format: str, payload: bytes) -> None:
    """Raise CodecError unless a file has the layout that `ImageFile` writes; pixels are not decoded."""
    if not _fits(format, payload):
        raise CodecError(
            f"payload is no readable {format} file: only the layout of ImageFile is decoded: encode pictures with it"
        )


def format_of(payload: bytes) -> str | None:
    """Return the format whose layout, as `ImageFile` writes it, a file has; None if it has that of none."""
    return next((format for format in LAYOUTS if _fits(format, payload)), None)


def _fits(format: str, payload: bytes) -> bool:
    try:
        return LAYOUTS[format](payload)
    except (IndexError, ValueError):  # truncated, or another structure
        return False


def _begins(pattern: bytes) -> Callable[[bytes], bool]:
    head = re.compile(pattern, re.DOTALL)
    return lambda payload: head.match(payload) is not None


def _segments(payload: bytes, last: int, most: int = 16) -> tuple[bytes, list[bytes], int]:
    """Return markers, contents and end of the segments from byte 2 up to the marker `last`.

    Raises ValueError if it is not among the first `most` markers, or its segment is truncated.
    """
    markers, contents, at = b"", [], 2
    while len(markers) < most and payload[at] == 0xFF:
        markers += payload[at + 1 : at + 2]
        start, at = at + 4, at + 2 + int.from_bytes(payload[at + 2 : at + 4], "big")
        contents.append(payload[start:at])
        if markers[-1] == last and at <= len(payload):
            return markers, contents, at
    raise ValueError("other segments")


def _jpeg(payload: bytes) -> bool:
    """Return whether it is a baseline JPEG of one scan."""
    markers, _, at = _segments(payload, SCAN[1])
    return payload[:2] == b"\xff\xd8" and BASELINE.issuperset(markers) and payload.find(SCAN, at) < 0


def _jpeg_2000(payload: bytes) -> bool:
    """Return whether it is a bare code stream of one tile, in one layer and one part, without precincts."""
    markers, contents, at = _segments(payload, STREAM[0][-1])
    tile = b"\0\0" + struct.pack(">I", len(payload) - 2 - (at - TILE_PART)) + b"\0\x01"  # first and last, to the end
    return (
        payload[:2] == b"\xff\x4f"
        and markers in STREAM
        and all(form.fullmatch(content) for form, content in zip((SIZE, CODING, STEPS), contents, strict=False))
        and contents[-1] == tile
        and payload[at : at + 2] == b"\xff\x93"  # start of data
    )


def _item(payload: bytes, kind: bytes) -> tuple[bytes, int]:
    """Return the header of a file with a single item of a kind, and its data's offset; raises ValueError for others."""
    names, at = [], 0
    for _ in range(3):
        start, at = at, at + int.from_bytes(payload[at : at + 4], "big")
        names.append(payload[start + 4 : start + 8])
    head, item = payload[:start], b"infe\x02\0\0\0\0\x01\0\0" + kind
    if names != [b"ftyp", b"meta", b"mdat"] or at != len(payload) or head.count(b"infe") != 1 or item not in head:
        raise ValueError("other boxes or items")
    return head, start + 8


def _avif(payload: bytes) -> bool:
    """Return whether it holds one AV1 still picture of the stated size."""
    head, start = _item(payload, b"av01")
    place = b"iloc\0\0\0\0D\0\0\x01\0\x01\0\0\0\x01" + struct.pack(">II", start, len(payload) - start)
    sequence = SEQUENCE.match(payload, start)
    if head.count(b"iloc") != 1 or place not in head or head.count(b"ispe") != 1 or sequence is None:
        return False
    end = sequence.end() + sequence[1][0]
    size = b"ispe\0\0\0\0" + struct.pack(">II", *_still_size(payload[sequence.end() : end]))
    return size in head and payload[end] == FRAME and _reaches_end(payload, end + 1)


def _still_size(sequence: bytes) -> tuple[int, int]:
    """Return width and height from the reduced header of an AV1 still picture; raises ValueError for other headers."""
    bits = "".join(f"{byte:08b}" for byte in sequence)
    if bits[3:5] != "11":  # still and reduced, so that all pictures have this size
        raise ValueError("no still picture")
    width, height = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1  # number of bits of each
    return int(bits[18 : 18 + width], 2) + 1, int(bits[18 + width : 18 + width + height], 2) + 1


def _reaches_end(payload: bytes, at: int) -> bool:
    """Return whether the AV1 unit with its length field at `at` ends with the payload."""
    length = 0
    for shift in range(0, 35, 7):
        length |= (payload[at] & 127) << shift
        at += 1
        if payload[at - 1] < 128:
            return at + length == len(payload)
    return False


def _webp(payload: bytes) -> bool:
    """Return whether it holds one picture of the lossy format, to its end."""
    size, chunk = (int.from_bytes(payload[at : at + 4], "little") for at in (4, 16))
    ends = len(payload) == 8 + size == 20 + chunk + chunk % 2
    return payload[:4] == b"RIFF" and payload[8:16] == b"WEBPVP8 " and ends


LAYOUTS: dict[str, Callable[[bytes], bool]] = {
    "AVIF": _avif,
    "BMP": _begins(rb"BM.{12}\(\0\0\0.{8}\x01\0[\x08\x18]\0\0\0\0\0"),
    "HEIC": lambda payload: bool(_item(payload, b"hvc1")),  # libheif refuses pictures larger than stated
    "JPEG": _jpeg,
    "JPEG2000": _jpeg_2000,
    "PNG": _begins(rb"\x89PNG\r\n\x1a\n"),
    "PPM": _begins(rb"P[56]\s\d{1,9}\s\d{1,9}\s255\s"),
    "WEBP": _webp,
}
"""Supported formats, each with the check that a file's layout bounds the work of its decoder."""
