"""Every kind of picture becomes the colours that it shows, or is refused; values are worked out apart."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from splitlearn.data import DataError
from splitlearn.data.masks import read_ids
from splitlearn.decoding import decode_rgb, shown_shape

ORIENTATION = 0x0112
RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # of which every value has a byte of its own


def shown(file: Path) -> NDArray[np.uint8]:
    return np.asarray(decode_rgb(file))


def png(file: Path, depth: int, kind: int, row: bytes, width: int, transparent: bytes = b"") -> Path:
    """Write a PNG of one row, of kinds that Pillow writes none of."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + key + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )
    return file


def tiff(file: Path, image: Image.Image, **tags: Any) -> Path:
    """Write a TIFF whose tags are changed; Pillow writes those that it is told to."""
    info = ImageFileDirectory_v2()
    for name, value in tags.items():
        info[int(name.removeprefix("tag"))] = value
    image.save(file, tiffinfo=info)
    return file


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "a.pgm", "a.jp2"])
def test_16_bit_grey_is_scaled(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(RAMP)
    if name == "big.tif":
        image = Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes())
    if name == "a.jp2":
        image.save(tmp_path / name, irreversible=False)
    else:
        image.save(tmp_path / name)
    assert np.array_equal(shown(tmp_path / name), np.repeat(np.arange(256).reshape(16, 16, 1), 3, 2))


def test_16_bit_grey_of_tiff_that_counts_from_white(tmp_path: Path) -> None:
    file = tiff(tmp_path / "a.tif", Image.fromarray(RAMP))
    content = bytearray(file.read_bytes())
    entry = content.index(struct.pack("<HHI", 262, 3, 1))
    assert content[entry + 8] == 1
    content[entry + 8] = 0
    file.write_bytes(content)
    assert np.array_equal(shown(file)[..., 0], 255 - np.arange(256).reshape(16, 16))


def test_12_bit_tiff_is_scaled_by_12_bits(tmp_path: Path) -> None:
    content = bytearray(tiff(tmp_path / "a.tif", Image.fromarray(np.zeros((1, 3), np.uint16))).read_bytes())
    entry, data = (content.index(struct.pack("<HH", tag, kind)) for tag, kind in ((258, 3), (273, 4)))
    content[entry + 8] = 12
    offset = struct.unpack_from("<I", content, data + 8)[0]
    content[offset : offset + 5] = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0])  # 0, 2048 and 4095
    (tmp_path / "a.tif").write_bytes(content)
    assert shown(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_16_bit_colours_keep_their_upper_bytes(tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", 16, 2, struct.pack(">3H", 65535, 32768, 255), 1)
    assert shown(file).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_hidden_colours_do_not_show(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = 90, 90, 90, 255
    pixels[0, 1] = 100, 100, 100, 128
    pixels[1, 0] = 10, 10, 10, 0
    image = Image.fromarray(pixels)
    if mode == "PA":  # Pillow's own conversion drops the transparency
        image = Image.new("PA", (2, 2))
        image.putpalette([n // 3 for n in range(768)])
        image.putdata([(90, 255), (100, 128), (10, 0), (0, 0)])
    else:
        image = image.convert(mode)
    name = {"RGBA": "a.png", "LA": "a.png", "PA": "a.tif", "RGBa": "a.webp"}[mode]
    image.save(tmp_path / name, lossless=True)
    expected = [[[90] * 3, [100 * 128 / 255 + 127] * 3], [[255] * 3] * 2]
    assert shown(tmp_path / name).astype(int) == pytest.approx(np.array(expected), abs=1)


def test_transparent_palettes_and_key_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 50, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "index.png", transparency=0)
    image.save(tmp_path / "bytes.png", transparency=bytes([0, 255]))
    image.save(tmp_path / "index.gif", transparency=0)
    for name in ("index.png", "bytes.png", "index.gif"):
        assert shown(tmp_path / name).tolist() == [[[255] * 3, [0, 50, 0]]], name
    colours = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    colours.save(tmp_path / "rgb.png", transparency=(4, 5, 6))
    colours.convert("L").save(tmp_path / "grey.png", transparency=2)
    assert shown(tmp_path / "rgb.png").tolist() == [[[1, 2, 3], [255] * 3]]
    assert shown(tmp_path / "grey.png").tolist() == [[[255] * 3, [5] * 3]]


@pytest.mark.parametrize(
    ("depth", "kind", "row", "key"),
    [(2, 0, b"\x1b", b"\0\1"), (16, 0, b"\1\2\3\4\5\6\7\x08", b"\1\2"), (16, 2, bytes(24), bytes(6))],
)
def test_key_colours_of_other_depths_are_refused(tmp_path: Path, depth: int, kind: int, row: bytes, key: bytes) -> None:
    png(tmp_path / "a.png", depth, kind, row, 4)
    decode_rgb(tmp_path / "a.png")
    png(tmp_path / "a.png", depth, kind, row, 4, key)
    with pytest.raises(DataError, match=r"a\.png holds .*transparent value.*: save it as 8-bit PNG or JPEG"):
        decode_rgb(tmp_path / "a.png")


def test_print_colours(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for name in ("a.jpg", "a.tif"):
        ink.save(tmp_path / name)
        assert shown(tmp_path / name)[4, 4].tolist() == pytest.approx([0, 255, 255], abs=3), name
    Image.new("RGB", (8, 8), (10, 200, 30)).convert("YCbCr").save(tmp_path / "y.tif")
    assert shown(tmp_path / "y.tif")[4, 4].tolist() == pytest.approx([10, 200, 30], abs=3)


@pytest.mark.parametrize(("mode", "name"), [("F", "a.tif"), ("I", "a.tif"), ("LAB", "a.tif"), ("F", "a.ppm")])
def test_what_has_no_range_is_refused(tmp_path: Path, mode: str, name: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.\w+ holds .*: save it as 8-bit PNG or JPEG, or remove it"):
        decode_rgb(tmp_path / name)


def test_signed_bytes_are_refused(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", Image.new("L", (4, 4), 3), tag339=2)
    with pytest.raises(DataError, match="holds signed integers"):
        decode_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "packed.tif", "a.avif", "pages.tif"])
def test_images_are_upright(tmp_path: Path, name: str, turn: int) -> None:
    corners = np.zeros((32, 64, 3), np.uint8)
    corners[:16, :32], corners[:16, 32:], corners[16:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(corners)
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    options: dict[str, Any] = {"exif": exif}
    if name.endswith(".tif"):
        options = {"tiffinfo": {ORIENTATION: turn}}
    if name == "packed.tif":
        options["compression"] = "tiff_deflate"
    if name == "pages.tif":
        options |= {"save_all": True, "append_images": [Image.new("RGB", (5, 5))]}
    image.save(tmp_path / name, **options)
    image.getexif()[ORIENTATION] = turn
    expected = np.asarray(ImageOps.exif_transpose(image))
    found = shown(tmp_path / name)
    assert found.shape == expected.shape
    assert np.abs(found[8::16, 8::16].astype(int) - expected[8::16, 8::16]).max() < 40
    assert shown_shape(tmp_path / name) == found.shape[:2]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, mode) for name in ("plain.tif", "packed.tif") for mode in ("L", "P", "RGB", "CMYK", "RGBA", "I;16")),
        *(("a.png", mode) for mode in ("L", "P", "RGB", "RGBA", "I;16")),
    ],
)
def test_every_mode_is_turned_to_the_last_pixel(tmp_path: Path, name: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(noise)
    image = image if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / name)
    upright = shown(tmp_path / name)
    mirrored = upright[:, ::-1]
    expected = [mirrored, np.rot90(upright, 2), upright[::-1], np.rot90(mirrored), np.rot90(upright, 3)]
    expected += [np.rot90(mirrored, 3), np.rot90(upright)]
    for turn, turned in enumerate(expected, 2):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        options = {"compression": "tiff_lzw"} if name == "packed.tif" else {}
        image.save(tmp_path / name, exif=exif, **options)
        assert np.array_equal(shown(tmp_path / name), turned), turn
        assert shown_shape(tmp_path / name) == turned.shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_exif_counts_as_none(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert shown(tmp_path / "a.jpg").shape == (4, 8, 3)
    assert shown_shape(tmp_path / "a.jpg") == (4, 8)


def small_gif(file: Path, **options: Any) -> None:
    """Write a picture of 2×2 pixels, and place it at (1, 1) in a canvas of 4×4."""
    image = Image.new("P", (2, 2), 1)
    image.putpalette([200, 0, 0, 0, 255, 0])
    image.putpixel((1, 1), 0)
    image.save(file, **options)
    content = bytearray(file.read_bytes())
    content[6:10] = struct.pack("<HH", 4, 4)
    picture = content.index(b"\x2c")
    content[picture + 1 : picture + 5] = struct.pack("<HH", 1, 1)
    file.write_bytes(content)


def test_what_a_gif_leaves_empty_is_white_or_refused(tmp_path: Path) -> None:
    small_gif(tmp_path / "white.gif", transparency=7)
    pixels = shown(tmp_path / "white.gif")
    assert pixels[0].tolist() == pixels[:, 3].tolist() == [[255] * 3] * 4
    assert pixels[1:3, 1:3].tolist() == [[[0, 255, 0]] * 2, [[0, 255, 0], [200, 0, 0]]]
    small_gif(tmp_path / "none.gif")
    with pytest.raises(DataError, match=r"none\.gif holds a first picture smaller than the whole"):
        shown(tmp_path / "none.gif")


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_of_several_pictures_counts(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    assert shown(tmp_path / name)[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_content_and_not_the_suffix_tells_what_a_file_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.jpg", "PNG")
    assert shown(tmp_path / "a.jpg")[0, 0].tolist() == [255, 0, 0]
    Image.new("RGB", (8, 8), "red").save(tmp_path / "b.jpg", "EPS")  # a program, for another program to run
    with pytest.raises(DataError, match=r"cannot decode .*b\.jpg, remove or replace it"):
        decode_rgb(tmp_path / "b.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tif", "a.gif", "a.avif", "a.jp2", "a.ppm"])
def test_damaged_files_raise_one_error(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in (0, 1, 9, len(whole) // 3, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot decode .*, remove or replace it"):
            decode_rgb(tmp_path / name)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole)
        for position in rng.integers(0, 200, 6):
            damaged[position] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        for read in (decode_rgb, shown_shape):
            with suppress(DataError):  # any other error fails the test
                read(tmp_path / name)


def test_a_picture_too_large_to_be_one_is_refused(tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", 8, 0, bytes(10), 10)
    content = bytearray(file.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    file.write_bytes(content)
    for read in (decode_rgb, shown_shape):
        with pytest.raises(DataError, match=r"cannot decode .* exceeds limit"):
            read(file)


def test_masks_are_numbers_and_no_colours(tmp_path: Path) -> None:
    packed = {1: b"\x10", 2: b"\x1b", 4: b"\x01\x23"}
    for depth, row in packed.items():
        expected = [0, 0, 0, 1] if depth == 1 else [0, 1, 2, 3]
        assert read_ids(png(tmp_path / "a.png", depth, 0, row, 4)).tolist() == [expected], depth
        assert read_ids(png(tmp_path / "a.png", depth, 0, row, 4, b"\0\1")).tolist() == [expected], depth
    Image.fromarray(np.array([[300, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_ids(tmp_path / "a.png").tolist() == [[300, 65535]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
    palette.putdata([2, 1])
    palette.save(tmp_path / "a.png", transparency=0)
    assert read_ids(tmp_path / "a.png").tolist() == [[2, 1]]


def test_masks_that_are_turned_or_lossy_are_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("L", (4, 4)).save(tmp_path / "a.png", exif=exif)
    with pytest.raises(DataError, match=r"a\.png has an EXIF orientation, .*: save it without EXIF"):
        read_ids(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(DataError, match=r"cannot decode .* as PNG, remove or replace it"):
        read_ids(tmp_path / "a.png")


def test_an_image_file_in_memory_is_not_needed(tmp_path: Path) -> None:
    """The decoded image is free of its file."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "JPEG")
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    image = decode_rgb(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").unlink()
    assert image.getpixel((0, 0)) == (254, 0, 0)
