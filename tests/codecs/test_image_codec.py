"""Files of every format: what comes back, how large they are, and how damage shows."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from splitlearn.codecs import CodecError
from splitlearn.models import ImageFile, Pixels

# format, a poor quality, a fine one, and the PSNR in dB that the fine one reaches on a photo in colour
SCALES = [
    ("JPEG", 20, 90, 36),
    ("WEBP", 20, 90, 36),
    ("AVIF", 20, 90, 38),
    ("HEIC", 20, 80, 36),
    ("JPEG2000", 28, 42, 40),
]
FORMATS = [format for format, *_ in SCALES]
Picture = NDArray[np.uint8]


@pytest.fixture(scope="session")
def photo(shared_data: Path) -> Picture:
    """A real photo's centre, 120×104, in colour."""
    with zipfile.ZipFile(shared_data / "imagenet_sample500.zip") as archive:
        name = min(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
        image = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    return np.ascontiguousarray(image[67:187, 61:165])  # off the blocks of the file that it comes from


def grey(image: Picture) -> Picture:
    return np.asarray(Image.fromarray(image).convert("L"))


def waves(height: int, width: int) -> Picture:
    """A smooth image in colour, of any size."""
    y, x = np.mgrid[:height, :width] / 16
    return (127.5 + 127.5 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=2)).astype(np.uint8)


def psnr(image: Picture, image_hat: Picture) -> float:
    """Return the peak signal-to-noise ratio in dB; a grey image may have come back in three channels."""
    image_hat = grey(image_hat) if image_hat.ndim > image.ndim else image_hat
    return float(10 * np.log10(255**2 / max(float(np.mean((image.astype(float) - image_hat) ** 2)), 1e-9)))


@pytest.mark.parametrize(("format", "poor", "fine", "decibel"), SCALES)
@pytest.mark.parametrize("colour", [True, False])
def test_quality_buys_fidelity_with_bytes(
    photo: Picture, format: str, poor: int, fine: int, decibel: float, colour: bool
) -> None:
    image = photo if colour else grey(photo)
    codecs = ImageFile(format, poor), ImageFile(format, (poor + fine) // 2), ImageFile(format, fine)
    files = [codec.encode(image) for codec in codecs]
    restored = [codec.decode(file) for codec, file in zip(codecs, files, strict=True)]
    assert all(image_hat.dtype == np.uint8 and image_hat.shape[:2] == image.shape[:2] for image_hat in restored)
    sizes, ratios = [len(file) for file in files], [psnr(image, image_hat) for image_hat in restored]
    assert sizes[0] < sizes[1] < sizes[2] < image.size
    assert 18 < ratios[0] < ratios[1] < ratios[2]
    assert decibel < ratios[2] < 60


def test_quality_of_jpeg_2000_is_its_psnr(photo: Picture) -> None:
    for decibel in (30, 40, 48):
        codec = ImageFile("JPEG2000", decibel)
        assert abs(psnr(grey(photo), codec.decode(codec.encode(grey(photo)))) - decibel) < 2


def test_jpeg_2000_transforms_colour(photo: Picture) -> None:
    """Without it, which is Pillow's default, three planes cost three times one."""
    codec = ImageFile("JPEG2000", 40)
    assert len(codec.encode(photo)) < 2 * len(codec.encode(grey(photo)))


@pytest.mark.parametrize("format", ["PNG", "BMP", "JPEG", "AVIF", "HEIC", "JPEG2000"])
def test_grey_images_stay_grey(photo: Picture, format: str) -> None:
    codec = ImageFile(format, 60)
    assert codec.decode(codec.encode(grey(photo))).shape == (120, 104)
    assert codec.decode(codec.encode(photo)).shape == (120, 104, 3)


def test_webp_knows_no_grey(photo: Picture) -> None:
    codec = ImageFile("WEBP", 60)
    assert codec.decode(codec.encode(grey(photo))).shape == (120, 104, 3)


def test_grey_hevc_has_no_chroma(photo: Picture) -> None:
    """The configuration record of HEVC says 4:0:0 where an image is grey, 4:2:0 where it has colour."""
    for image, chroma in ((grey(photo), 0), (photo, 1)):
        file = ImageFile("HEIC", 50).encode(image)
        record = file.index(b"hvcC") + 4
        assert file[record + 16] & 3 == chroma
        assert file[8:12] in (b"heic", b"heix")


@pytest.mark.parametrize("format", [*FORMATS, "PNG", "BMP", "PPM"])
@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 70), width=st.integers(1, 70), colour=st.booleans())
def test_images_of_any_size_come_back(format: str, height: int, width: int, colour: bool) -> None:
    image = waves(height, width) if colour else waves(height, width)[..., 0]
    codec = ImageFile(format, 42 if format == "JPEG2000" else 90)
    image_hat = codec.decode(codec.encode(image))
    assert image_hat.shape[:2] == (height, width)
    assert image.ndim == 3 or psnr(image, image_hat) > 28


@pytest.mark.parametrize("codec", [Pixels(), ImageFile("PNG"), ImageFile("BMP"), ImageFile("PPM")])
def test_lossless_formats_change_nothing(photo: Picture, codec: Pixels | ImageFile) -> None:
    for image in (photo, grey(photo)):
        np.testing.assert_array_equal(codec.decode(codec.encode(image)), image)


@pytest.mark.parametrize("format", [*FORMATS, "PNG"])
def test_damaged_files_are_refused_or_decoded_but_never_crash(format: str) -> None:
    codec, random = ImageFile(format, 50), np.random.default_rng(0)
    payload, refused = codec.encode(waves(48, 40)), 0
    other = ImageFile("PNG" if format != "PNG" else "JPEG").encode(waves(48, 40))
    for damaged in (b"", b"no image at all", payload[:20], payload[: len(payload) // 4], other):
        with pytest.raises(CodecError, match=f"^payload is no readable {format} file: "):
            codec.decode(damaged)
    for _ in range(150):
        changed = bytearray(payload)
        for position in random.integers(0, min(len(payload), 400), 3):
            changed[position] = random.integers(256)
        try:
            codec.decode(bytes(changed))
        except CodecError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "LA", "1", "P"])
def test_what_no_eight_bit_picture_holds_is_refused(mode: str) -> None:
    """Colours that hide behind transparency, and values that are cut off at 255, would show."""
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, "PNG", **({"transparency": 0} if mode == "P" else {}))
    with pytest.raises(CodecError, match=r"^the payload's pixels are .*: encode pictures as 8-bit L or RGB$"):
        ImageFile("PNG").decode(file.getvalue())


@pytest.mark.parametrize(
    "format",
    [
        "ICO",
        "ICNS",
        "EPS",
        "PDF",
        "MPO",
        "SPIDER",
        "XBM",
        "QOI",
        "GIF",
        "TIFF",
        "DDS",
        "DIB",
        "IM",
        "PCX",
        "SGI",
        "TGA",
    ],
)
def test_formats_whose_decoders_have_no_bound_are_refused(format: str) -> None:
    with pytest.raises(
        ValueError, match=f"^images cross as no '{format}': take one of AVIF, BMP, HEIC, JPEG, JPEG2000"
    ):
        ImageFile(format)


def test_a_palette_shows_its_colours() -> None:
    image, file = np.repeat(waves(2, 3), 4, axis=0), io.BytesIO()
    Image.fromarray(image).quantize(8).save(file, "PNG")
    assert np.array_equal(ImageFile("PNG").decode(file.getvalue()), image)


def test_a_forged_size_is_not_allocated() -> None:
    file = bytearray(ImageFile("BMP").encode(waves(8, 8)))
    file[18:26] = (1 << 20).to_bytes(4, "little") * 2
    with pytest.raises(CodecError, match="no readable BMP file: Image size"):
        ImageFile("BMP").decode(bytes(file))


def test_names_stand_in_any_case_and_heif_is_heic() -> None:
    assert [ImageFile(name).format for name in ("jpeg", "Heic", "HEIF", "jpeg2000")] == [
        "JPEG",
        "HEIC",
        "HEIC",
        "JPEG2000",
    ]
    assert repr(ImageFile("heif", 30)) == "ImageFile(format='HEIC', quality=30)"
    with pytest.raises(ValueError, match=r"images cross as no 'JPG3': take one of .*HEIC.*JPEG.*PNG"):
        ImageFile("JPG3")


@pytest.mark.parametrize("format", FORMATS)
def test_qualities_off_the_scale_are_refused(format: str) -> None:
    for quality in (-1, 101):
        with pytest.raises(ValueError, match=f"got {quality}$"):
            ImageFile(format, quality)


def test_no_decibel_is_no_quality() -> None:
    """OpenJPEG takes 0 for everything there is, the opposite of what it looks like."""
    with pytest.raises(ValueError, match="PSNR from 1 to 100 dB, got 0"):
        ImageFile("JPEG2000", 0)


@pytest.mark.parametrize(
    "image",
    [waves(4, 4).astype(float), waves(4, 4)[:, :, :2], waves(4, 4)[0, 0], waves(4, 4)[:0], waves(4, 4)[:, :0, 0]],
)
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_image_is_refused(format: str, image: Picture) -> None:
    with pytest.raises(ValueError, match=r"an image is uint8 \(H, W, 3\) or \(H, W\) and not empty, got"):
        ImageFile(format, 50).encode(image)


@pytest.mark.parametrize("format", ["WEBP", "HEIC"])
def test_too_large_an_image_is_refused(format: str) -> None:
    with pytest.raises(ValueError, match=rf"{format} holds no image of shape \(1, 20000\): "):
        ImageFile(format, 50).encode(np.zeros((1, 20000), np.uint8))


@pytest.mark.parametrize("name", ["HEIC", "heif"])
def test_the_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImportError, match=r"^HEIC needs pillow-heif: pip install 'splitlearn\[images\]'$"):
        ImageFile(name)
    assert ImageFile("AVIF").format == "AVIF"


def test_heic_leaves_pillow_as_it_was() -> None:
    """Formats registered in Pillow are those of the whole process."""
    before = dict(Image.OPEN), dict(Image.SAVE)
    ImageFile("HEIC").decode(ImageFile("HEIC").encode(waves(8, 8)))
    assert (dict(Image.OPEN), dict(Image.SAVE)) == before
