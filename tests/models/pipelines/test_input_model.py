"""The baselines: the image itself is the payload."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from splitlearn.codecs import CodecError
from splitlearn.models import ImageFile, InputModel, Normalize, Pixels
from tests.networks import digits, network


def photo() -> NDArray[np.uint8]:
    """Smooth colours with a sharp edge, wider than high."""
    x, y = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 32))
    image = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], axis=2)
    image[8:16, 8:16] = 1
    return (image * 255).round().astype(np.uint8)


@pytest.mark.parametrize("codec", [Pixels(), ImageFile("PNG"), ImageFile("BMP")])
def test_lossless_codecs_change_nothing(codec: Pixels | ImageFile) -> None:
    model, images = InputModel(network(), codec).eval(), digits(3)  # their pixels are k/255
    payloads = model.compress(images)
    for image, payload in zip(images, payloads, strict=True):
        expected = (image * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(codec.decode(payload), expected)
    assert torch.equal(model.decompress(payloads), model(images))


def test_pixels_are_the_default_and_cost_three_bytes_each() -> None:
    model = InputModel(network())
    assert isinstance(model.codec, Pixels)
    assert all(3 * 32 * 32 < len(payload) < 3 * 32 * 32 + 20 for payload in model.compress(digits(2)))


def test_pixels_are_rounded_and_clamped() -> None:
    images = torch.tensor([-0.25, 0.0, 0.4999 / 255, 0.5001 / 255, 0.5, 1.0, 1.25]).expand(1, 3, 2, 7)
    model = InputModel(network(), Pixels())
    decoded = model.codec.decode(model.compress(images)[0])
    assert decoded[0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("codec", [Pixels(), ImageFile("PNG")])
def test_what_clamping_would_change_is_refused(codec: Pixels | ImageFile) -> None:
    model, images = InputModel(network(), codec), torch.rand(2, 3, 32, 32)
    for normalized in (images - 0.5, images * 1.4, list(images - 0.3)):
        with pytest.raises(ValueError, match=r"images lie in .* and leave normalization to the model"):
            model.compress(normalized)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_files_trade_bytes_for_error(format: str) -> None:
    image = photo()
    size, error = {}, {}
    for quality in (10, 90):
        codec = ImageFile(format, quality)
        payload = codec.encode(image)
        assert Image.open(io.BytesIO(payload)).format == format
        decoded = codec.decode(payload)
        assert decoded.shape == image.shape
        assert decoded.dtype == np.uint8
        size[quality] = len(payload)
        error[quality] = np.abs(decoded.astype(int) - image).mean()
    assert size[10] < size[90] < image.size
    assert error[90] < error[10] < 20


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_predictions_come_from_the_decoded_files(format: str) -> None:
    model, images = InputModel(network(), ImageFile(format, 20)).eval(), digits(2)
    payloads = model.compress(images)
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(payload)).convert("RGB")) for payload in payloads])
    expected = model(torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous() / 255)
    assert torch.equal(model.decompress(payloads), expected)
    assert not torch.equal(expected, model(images))


def test_a_grey_file_is_a_grey_image_in_colour() -> None:
    model, grey = InputModel(network(), ImageFile("PNG")).eval(), photo()[:32, :32, 0]
    expected = model(torch.from_numpy(grey).expand(1, 3, 32, 32) / 255)
    assert torch.equal(model.decompress([model.codec.encode(grey)]), expected)


def grey_network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


@pytest.mark.parametrize("codec", [Pixels(), *map(ImageFile, ("PNG", "PPM", "JPEG", "WEBP", "AVIF", "JPEG2000"))])
def test_images_of_one_channel_cross_as_grey_pictures(codec: Pixels | ImageFile) -> None:
    model, images = InputModel(grey_network(), codec, Normalize([0.5], [0.2]), channels=1).eval(), digits(3)[:, :1]
    payloads = model.compress(images)
    assert codec.decode(payloads[0]).ndim == (3 if repr(codec).find("WEBP") > 0 else 2)
    expected = model(images)
    lossless = isinstance(codec, Pixels) or codec.format in ("PNG", "PPM")
    assert model.run(images).prediction.shape == expected.shape
    torch.testing.assert_close(model.decompress(payloads), expected, rtol=0, atol=0 if lossless else 0.3)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images of 3 channel\(s\), not of 1: set its `channels` to the"):
        InputModel(grey_network(), ImageFile("PNG")).compress(digits(1)[:, :1])
    with pytest.raises(ValueError, match=r"of 1 channel\(s\), not of 3"):
        InputModel(grey_network(), channels=1).compress(digits(1))
    for channels in (0, 2, 4):
        with pytest.raises(ValueError, match=f"pictures have 1 or 3 channels, got {channels}"):
            InputModel(grey_network(), channels=channels)


def test_names_and_qualities_that_do_not_exist_are_refused() -> None:
    assert ImageFile("jpeg").format == "JPEG"
    with pytest.raises(ValueError, match=r"images cross as no 'JPG3': take one of .*JPEG.*PNG"):
        ImageFile("JPG3")
    for quality in (-1, 101):
        with pytest.raises(ValueError, match=f"from 0 to 100, got {quality}"):
            ImageFile("JPEG", quality)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_damaged_files_are_refused(format: str) -> None:
    codec = ImageFile(format)
    payload = codec.encode(photo())
    other = ImageFile("PNG" if format != "PNG" else "JPEG").encode(photo())
    for damaged in (b"", b"no image at all", payload[: len(payload) // 2], payload[:20], other):
        with pytest.raises(CodecError, match=f"no readable {format} file"):
            codec.decode(damaged)


def test_damaged_pixels_are_refused() -> None:
    payload = Pixels().encode(photo())
    with pytest.raises(CodecError):
        Pixels().decode(payload[:-1] + bytes([payload[-1] ^ 1]))


def test_the_whole_network_trains() -> None:
    model = InputModel(network(), ImageFile("JPEG", 5), Normalize([0.5] * 3, [0.25] * 3)).train()
    output = model.run(digits(4))
    assert (output.features, output.latents, output.features_hat) == ((), (), ())
    output.prediction.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_normalization_comes_after_decoding() -> None:
    plain, normal = (
        InputModel(network()).eval(),
        InputModel(network(), normalize=Normalize([0.5] * 3, [0.2] * 3)).eval(),
    )
    images = digits(2)
    assert plain.compress(images) == normal.compress(images)
    assert torch.equal(normal.decompress(normal.compress(images)), plain((images - 0.5) / torch.tensor(0.2)))


def test_payloads_of_several_sizes_are_no_batch() -> None:
    model = InputModel(nn.Identity())
    payloads = [model.compress(torch.rand(1, 3, side, 8))[0] for side in (8, 9)]
    assert [model.decompress([payload]).shape[2] for payload in payloads] == [8, 9]
    with pytest.raises(CodecError, match="of different sizes: decompress them one size at a time"):
        model.decompress(payloads)
    with pytest.raises(ValueError, match="there are no payloads"):
        model.decompress([])
