"""Features that cross as a picture: nothing but the image format loses, and only payloads reach the edge server."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.codecs import CodecError, Raw
from splitlearn.models import ImageCodec, ImageFile, Normalize, Pixels, Split, SplitModel, TiledFeatures, split
from splitlearn.models.pipelines.tiled_model import tile, untile
from splitlearn.quantizers import Affine, MinMax, Quantizer, Step
from splitlearn.tasks import ClassificationTask
from tests.networks import SHAPE, digits, halves

SHAPES = st.lists(st.integers(1, 9), max_size=4).map(tuple) | st.tuples(st.integers(1, 300))


@cache
def cut(at: str = "layer2") -> Split:
    return halves(at)


def tiled(codec: ImageCodec, quantizer: Quantizer | None = None, at: str = "layer2") -> TiledFeatures:
    return TiledFeatures(cut(at), quantizer or MinMax(8), codec).eval()


@settings(deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_untile_undoes_tile(shape: tuple[int, ...], seed: int) -> None:
    channels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    picture = tile(channels)
    assert picture.ndim == 2
    assert picture.flags.c_contiguous
    assert picture.size - channels.size < picture.size / 2 or channels.size == 1
    np.testing.assert_array_equal(untile(picture, shape), channels)


def test_channels_stand_side_by_side() -> None:
    channels = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3) + 1
    np.testing.assert_array_equal(tile(channels), np.concatenate(list(channels), axis=1))
    four = channels[:4]
    np.testing.assert_array_equal(tile(four), np.block([[four[0], four[1]], [four[2], four[3]]]))
    assert not tile(np.ones((103, 1, 1), np.uint8))[-1, -1]  # 8 × 13 places


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((32, 16, 16), (64, 128)),
        ((64, 7, 5), (56, 40)),
        ((65, 8, 8), (40, 104)),
        ((96, 60, 80), (480, 960)),
        ((512,), (16, 32)),
        ((50, 192), (50, 192)),
        ((1, 4, 4), (4, 4)),
        ((2, 3, 4, 5), (8, 15)),
        ((), (1, 1)),
    ],
)
def test_mosaics_are_near_square(shape: tuple[int, ...], picture: tuple[int, int]) -> None:
    assert tile(np.zeros(shape, np.uint8)).shape == picture


@given(channels=st.integers(1, 5000))
def test_few_places_stay_empty(channels: int) -> None:
    rows, columns = tile(np.zeros((channels, 1, 1), np.uint8)).shape
    assert rows <= columns <= 2 * math.ceil(math.sqrt(channels))
    assert 0 <= rows * columns - channels < math.sqrt(channels)


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"features \(4, 2, 2\) are a picture of 4×4 pixels, this one is of shape \(4, 5\)"
    ):
        untile(np.zeros((4, 5), np.uint8), (4, 2, 2))


@pytest.mark.parametrize("quantizer", [MinMax(8), MinMax(3), MinMax(2), Step(0.05), Step(0.3, 7), Affine(0.02, 3, 200)])
@pytest.mark.parametrize("codec", [ImageFile("PNG"), Pixels()], ids=["PNG", "Pixels"])
def test_a_lossless_format_loses_nothing(quantizer: Quantizer, codec: ImageCodec) -> None:
    images, model = digits(5), tiled(codec, quantizer)
    reference = SplitModel(cut(), quantizer, Raw()).eval()
    payloads, expected = model.compress(images), reference.compress(images)
    assert all(map(torch.equal, model.features_hat(payloads), reference.coder.latents_hat(expected)))
    assert torch.equal(model.decompress(payloads), reference.decompress(expected))
    assert torch.equal(model.decompress(payloads), model(images))


@pytest.mark.parametrize("at", ["layer3", "linear", "layer1.0.conv1"])
def test_maps_vectors_and_several_tensors_cross(at: str) -> None:
    model = tiled(ImageFile("PNG"), at=at)
    assert torch.equal(model.decompress(model.compress(digits(3))), model(digits(3)))


def test_each_tensor_has_its_quantizer() -> None:
    net = split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE)
    model = TiledFeatures(net, [MinMax(3), MinMax(6)], ImageFile("PNG")).eval()
    found = model.features_hat(model.compress(digits(1)))
    coarse, fine = (len(np.unique(tensor.numpy())) for tensor in found)
    assert coarse <= 8 < fine <= 64
    with pytest.raises(ValueError, match="2 float tensors cross"):
        TiledFeatures(net, [MinMax(3)], ImageFile("PNG"))


class Indexed(nn.Module):
    """A network whose tail needs an integer that its head has made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.LazyLinear(5)

    def forward(self, images: Tensor) -> Tensor:
        index = images.mean((2, 3)).argmax(1)
        features = self.conv(images + index.view(-1, 1, 1, 1))
        logits: Tensor = self.linear(features.flatten(1)) + index.view(-1, 1)
        return logits


def test_integers_cross_as_they_are() -> None:
    net, images = split(Indexed(), "conv", (3, 12, 16)), torch.rand(6, 3, 12, 16)
    model = TiledFeatures(net, MinMax(8), ImageFile("JPEG", 20)).eval()
    assert sorted(dtype.is_floating_point for dtype in net.dtypes) == [False, True]
    features, index = sorted(model.features_hat(model.compress(images)), key=Tensor.dim, reverse=True)
    assert index.dtype == torch.int64
    assert torch.equal(index, images.mean((2, 3)).argmax(1))
    assert len(index.unique()) > 1  # type: ignore[no-untyped-call]
    assert features.shape == (6, 4, 10, 14)


@pytest.mark.parametrize(
    ("format", "poor", "fine"),
    [("HEIC", 10, 80), ("AVIF", 10, 90), ("JPEG", 10, 95), ("WEBP", 10, 95), ("JPEG2000", 24, 45)],
)
def test_quality_buys_fidelity_with_bytes(format: str, poor: int, fine: int) -> None:
    images, sizes, errors = digits(3), [], []
    for quality in (poor, fine):
        model = tiled(ImageFile(format, quality))
        payloads = model.compress(images)
        exact, found = model.run(images).features_hat[0], model.features_hat(payloads)[0]
        sizes.append(sum(map(len, payloads)))
        errors.append(float((found - exact).square().mean() / exact.square().mean()))
    assert sizes[0] < sizes[1]
    assert 0.02 > errors[1] < errors[0] < 0.5


@pytest.mark.parametrize("bits", [2, 3])
def test_few_levels_survive_a_fine_file_untouched(bits: int) -> None:
    """Neighbouring levels are 36 or 85 grey values apart: rounding to the nearest takes the file's errors out."""
    model, images = tiled(ImageFile("HEIC", 95), MinMax(bits)), digits(3)
    assert torch.equal(model.decompress(model.compress(images)), model(images))


def test_zigzag_is_undone_before_coding() -> None:
    """A ramp from −1 to 1 is a smooth picture only if symbols ascend with the value."""

    pictures = []

    class Seen(Pixels):
        def encode(self, image: np.ndarray) -> bytes:
            pictures.append(image)
            return super().encode(image)

    model = TiledFeatures(cut("layer1"), Step(0.1), Seen()).eval()
    (latent,) = model.run(digits(1)).latents
    model.compress(digits(1))
    values, levels = latent[0].numpy(), untile(pictures[-1], tuple(latent.shape[1:]))
    order = np.argsort(values.reshape(-1))
    assert (np.diff(levels.reshape(-1)[order].astype(int)) >= 0).all()
    assert len(np.unique(levels)) > 5


def test_payloads_are_all_the_edge_server_gets() -> None:
    device, edge = (
        tiled(ImageFile("HEIC", 40)),
        TiledFeatures(halves("layer2"), MinMax(8), ImageFile("HEIC", 40)),
    )
    payloads = device.compress(digits(4))
    assert all(type(payload) is bytes for payload in payloads)
    found = edge.eval().decompress(payloads)
    assert torch.equal(found, device.decompress(payloads))
    assert torch.equal(edge.decompress(payloads[2:3]), device.decompress([payloads[2]]))
    assert not torch.equal(found, device(digits(4)))  # the format's loss is in it
    assert len({len(payload) for payload in payloads}) > 1


def test_every_byte_of_the_container_is_counted() -> None:
    model, codec = tiled(ImageFile("HEIC", 40)), ImageFile("HEIC", 40)
    (payload,) = model.compress(digits(1))
    symbols = model.coder.symbols(model.coder.latents(model.features(digits(1))))[0][0].numpy()
    assert payload.endswith(codec.encode(tile(symbols)))
    assert len(payload) == 9 + 3 + 2 * 4 + len(codec.encode(tile(symbols)))  # header, 32×16×16, two floats


@pytest.mark.parametrize("format", ["HEIC", "JPEG"])
def test_all_damage_is_found(format: str) -> None:
    model = tiled(ImageFile(format, 30))
    (payload,) = model.compress(digits(1))
    flipped = [
        payload[:i] + bytes([payload[i] ^ 4]) + payload[i + 1 :] for i in (*range(24), *range(24, len(payload), 37))
    ]
    for damaged in (b"", payload[:-1], payload + b"\0", payload[: len(payload) // 2], *flipped):
        with pytest.raises(CodecError):
            model.decompress([damaged])


@pytest.mark.parametrize(
    "reader",
    [
        lambda: tiled(ImageFile("JPEG", 40)),
        lambda: tiled(ImageFile("HEIC", 41)),
        lambda: tiled(ImageFile("HEIC", 40), MinMax(7)),
        lambda: tiled(ImageFile("HEIC", 40), at="layer1"),
        lambda: SplitModel(cut(), MinMax(8), Raw()).eval(),
    ],
)
def test_payloads_of_others_are_refused(reader: object) -> None:
    assert callable(reader)
    with pytest.raises(CodecError, match="foreign codec or quantizer"):
        reader().decompress(tiled(ImageFile("HEIC", 40)).compress(digits(1)))


def test_a_picture_of_a_wrong_size_is_damage() -> None:
    class Cropped(Pixels):
        def decode(self, payload: bytes) -> np.ndarray:
            return super().decode(payload)[1:]

    model = tiled(Cropped())
    with pytest.raises(CodecError, match=r"contradicts its picture: features .* 64×128 pixels"):
        model.decompress(model.compress(digits(1)))


def test_a_mosaic_too_large_for_the_format_is_refused() -> None:
    net = split(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.LazyLinear(2)), "0", (3, 1, 17000))
    with pytest.raises(ValueError, match=r"WEBP holds no image of shape \(1, 17000\)"):
        TiledFeatures(net, MinMax(8), ImageFile("WEBP")).compress(torch.rand(1, 3, 1, 17000))


def test_training_finds_nothing_to_train_and_normalization_is_the_models() -> None:
    model = TiledFeatures(cut(), MinMax(8), ImageFile("PNG"), Normalize([0.5] * 3, [0.2] * 3))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.eval()(digits(2)), tiled(ImageFile("PNG"))((digits(2) - 0.5) / torch.tensor(0.2)))
    with pytest.raises(ValueError, match="nothing trains, since"):
        ClassificationTask(model, 10).configure_optimizers()


def test_weights_load_whatever_the_format() -> None:
    model, other = (
        tiled(ImageFile("PNG")),
        TiledFeatures(halves("layer2", 1), MinMax(8), ImageFile("JPEG")),
    )
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(digits(2)), model(digits(2)))
