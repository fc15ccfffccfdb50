"""Payloads whose checksums are right, and whose headers lie: refused before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.codecs import Codec, CodecError, Huffman, Raw, RunLength, pack
from splitlearn.codecs.container import join_parts, next_context, pack_code, split_parts
from splitlearn.models import (
    DepthwiseSeparable,
    EarlyExitModel,
    FeatureCoder,
    ImageFile,
    InputModel,
    OperatingPoint,
    Pixels,
    SplitModel,
    TiledFeatures,
    VariableRateModel,
    faster_rcnn,
    mask_rcnn,
    resnet8,
    split,
)
from splitlearn.quantizers import Clipped, MinMax, Step
from tests.networks import SHAPE, carra, datta, digits, halves

Lie = dict[str, Any]


def forged(model: SplitModel | TiledFeatures, payload: bytes, *lies: Lie) -> bytes:
    """Return a payload whose parts differ from an honest one's by what `lies` say, with every checksum made right."""
    parts, context = [], model.coder.context
    for part, lie in zip(model.coder.payload_coder.read(payload), lies, strict=True):
        header = part.header
        code, shape = lie.get("code", part.payload[header.body :]), lie.get("shape", header.shape)
        levels, floats = lie.get("levels", header.levels), lie.get("floats", header.floats)
        parts.append(pack_code(code, shape, levels, part.carrier.codec, floats, context))
        context = next_context(parts[-1], context)
    return join_parts(parts)


def lone(codec: Codec, levels: int) -> bytes:
    """Few bytes that stand for any number of equal symbols."""
    return codec.encode(np.zeros(9, np.uint8), levels)


def refuse_decoding(monkeypatch: pytest.MonkeyPatch, model: SplitModel) -> None:
    for codec in model.coder.codecs:
        monkeypatch.setattr(type(codec), "decode", None)


@pytest.mark.parametrize("make", [datta, carra])
@pytest.mark.parametrize("shape", [(2**31 - 1,), (8, 8, 2**20), (1,), (), (0, 8, 8), (8, 8, 8, 1), (1, 8, 8, 8)])
def test_other_shapes_are_refused_before_they_are_decoded(
    make: Callable[..., SplitModel], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    (payload,) = model.compress(digits(1))
    bomb = forged(
        model, payload, {"shape": shape, "code": lone(model.coder.codecs[0], model.coder.quantizers[0].levels)}
    )
    refuse_decoding(monkeypatch, model)
    with pytest.raises(CodecError, match="the payload holds a tensor of shape"):
        model.decompress([bomb])


def test_sizes_that_follow_the_image_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = carra()
    assert model.net.varying == [(False, True, True)]
    assert model.net.max_growth == 16
    (payload,) = model.compress(digits(1))
    code = lone(RunLength(), 16)
    channels, height, width = model.coder.latent_shapes[0]
    assert model.decompress(model.compress(torch.rand(1, 3, 128, 128))).shape == (1, 10)
    refuse_decoding(monkeypatch, model)
    for shape in ((channels, 4 * height, 4 * width + 1), (channels, 1, 16 * height * width + 1)):
        with pytest.raises(CodecError, match=r"more than 16 times the elements of the example's.*max_growth"):
            model.decompress([forged(model, payload, {"shape": shape, "code": code})])
    for shape in ((channels + 1, height, width), (channels, 0, width), (height, width, channels)):
        with pytest.raises(CodecError, match="the payload holds a tensor of shape"):
            model.decompress([forged(model, payload, {"shape": shape, "code": code})])


def test_what_would_be_refused_is_not_sent() -> None:
    model, large = carra(), torch.rand(1, 3, 128, 160)
    with pytest.raises(ValueError, match=r"more than 16 times the elements of the example's.*max_growth"):
        model.compress(large)
    model.net.max_growth = 20
    assert torch.equal(model.decompress(model.compress(large)), model(large))
    assert model.coded_by(model.coder.quantizers, model.coder.codecs).net.max_growth == 20


def test_bounds_are_of_the_cut_whatever_is_sent_from_it() -> None:
    net = halves("layer2")
    net.max_growth = 1
    single = SplitModel(net, Step(0.1), Huffman())
    for model in (
        VariableRateModel.of([single], [OperatingPoint(0.5, 1.0)]),
        TiledFeatures(net, MinMax(8), ImageFile("PNG")),
    ):
        assert model.net is net
        with pytest.raises(ValueError, match="more than 1 times the elements"):
            model.eval().compress(torch.rand(1, 3, 64, 64))


class OneSize(nn.Module):
    """Its tail takes maps of any size, its head images of one."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.rand(3, 32, 32))
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.pool(self.conv(images + self.offset))
        return logits.flatten(1)


def test_a_network_of_one_size_takes_one_shape() -> None:
    model = SplitModel(split(OneSize(), "conv", SHAPE), MinMax(4), RunLength()).eval()
    assert model.net.varying == [(False, False, False)]
    (payload,) = model.compress(digits(1))
    symbols = np.zeros((4, 15, 15), np.uint8)
    with pytest.raises(CodecError, match=r"holds a tensor of shape \(4, 15, 15\), and \(4, 30, 30\) crosses this cut"):
        model.decompress([forged(model, payload, {"shape": symbols.shape, "code": RunLength().encode(symbols, 16)})])


@pytest.mark.parametrize("levels", [2, 15, 17, 256])
def test_other_levels_are_refused(levels: int) -> None:
    model = carra()
    (payload,) = model.compress(digits(1))
    with pytest.raises(CodecError, match=f"was not quantized by MinMax.*it has {levels} levels"):
        model.decompress([forged(model, payload, {"levels": levels})])


@pytest.mark.parametrize("floats", [(), (0.0,), (0.0, 1.0, 2.0)])
def test_another_number_of_floats_is_refused(floats: tuple[float, ...]) -> None:
    model = carra()
    (payload,) = model.compress(digits(1))
    with pytest.raises(CodecError, match=f"{len(floats)} floats, not 16 and 2"):
        model.decompress([forged(model, payload, {"floats": floats})])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_limits_that_are_not_finite_are_refused(bad: float, place: int) -> None:
    model, floats = carra(), [0.0, 1.0]
    floats[place] = bad
    (payload,) = model.compress(digits(1))
    with pytest.raises(CodecError, match="are not finite"):
        model.decompress([forged(model, payload, {"floats": tuple(floats)})])


def exits() -> EarlyExitModel:
    net = split(resnet8(), "layer2", SHAPE)
    return EarlyExitModel(net, MinMax(4), RunLength(), ["layer1"], threshold=1.0).eval()


def test_no_payload_looks_like_an_empty_one() -> None:
    model = exits()
    honest, other = model.compress(digits(2))
    extreme = forged(model, honest, {"floats": (-3.4e38, 3.4e38)})
    with pytest.raises(CodecError, match="payload 2 makes the network compute NaN, which stands for an empty payload"):
        model.decompress([other, b"", extreme])
    found = model.decompress([other, b"", honest])
    assert found.isnan().any(1).tolist() == [False, True, False]
    assert model.decompress([b"", np.zeros(0, np.uint8)]).isnan().all()


def two_tensors() -> SplitModel:
    torch.manual_seed(0)
    return SplitModel(split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE), MinMax(4), RunLength()).eval()


def test_parts_of_two_images_cannot_be_exchanged() -> None:
    model = two_tensors()
    a, b = (split_parts(payload, 2) for payload in model.compress(digits(2)))
    assert model.decompress([join_parts(a)]).shape == (1, 10)
    for mixed in ((a[0], b[1]), (b[0], a[1]), (a[1], a[0]), (a[0], a[0])):
        with pytest.raises(CodecError):
            model.decompress([join_parts(mixed)])


def test_tied_parts_cost_no_byte() -> None:
    model = two_tensors()
    symbols = [s[0].numpy() for s in model.symbols(digits(1))]
    floats = [model.coder.quantizers[0].quantize(latent)[1][0].tolist() for latent in model.run(digits(1)).latents]
    alone = [pack(s, 16, RunLength(), f, model.coder.context) for s, f in zip(symbols, floats, strict=True)]
    (payload,) = model.compress(digits(1))
    first, second = split_parts(payload, 2)
    assert first == alone[0]
    assert len(second) == len(alone[1])
    assert second[9:] == alone[1][9:]


class Maps(nn.Module):
    """Two maps cross, of sizes that must fit each other."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        return torch.cat([fine, self.up(self.coarse(fine))], 1)


def test_maps_that_do_not_fit_each_other_are_refused() -> None:
    model = SplitModel(split(Maps(), "coarse", SHAPE), MinMax(4), RunLength()).eval()
    (payload,) = model.compress(digits(1))
    larger = {"shape": (4, 10, 10), "code": RunLength().encode(np.zeros((4, 10, 10), np.uint8), 16)}
    with pytest.raises(CodecError, match="the network fails on sizes or integers of features"):
        model.decompress([forged(model, payload, larger, {})])
    assert model.decompress(model.compress(torch.rand(1, 3, 64, 32))).shape == (1, 8, 32, 16)


class Unpooled(nn.Module):
    """Integers cross: the places of maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool, self.last = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2), nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.unpool(*self.pool(images)))
        return logits


@pytest.mark.parametrize("values", [[-1], [2**40], [2**63 - 1], [-(2**63)]])
def test_integers_that_the_network_cannot_use_are_refused(values: list[int]) -> None:
    model = SplitModel(split(Unpooled(), "pool", SHAPE), MinMax(4), RunLength()).eval()
    number = next(i for i, carrier in enumerate(model.coder.payload_coder.carriers) if carrier.quantizer is None)
    (payload,) = model.compress(digits(1))
    lies: list[Lie] = [{}, {}]
    lies[number] = {"code": np.full((3, 16, 16), values, np.int64).tobytes()}
    with pytest.raises(CodecError, match="the network fails on"):
        model.decompress([forged(model, payload, *lies)])
    larger = torch.rand(2, 3, 64, 32)
    features, payloads = model.features(larger), model.compress(larger)
    assert torch.equal(model.coder.latents_hat(payloads)[number], features[number])


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": (3, 16, 127), "code": bytes(3 * 16 * 127)},
        {"shape": (3, 128), "code": bytes(3 * 128)},
        {"shape": (6144,)},
        {"shape": (), "code": b"\0"},
        {"levels": 255, "code": bytes(6144)},
        {"floats": (0.5,)},
    ],
)
def test_integers_of_another_form_are_refused(lie: Lie) -> None:
    model = SplitModel(split(Unpooled(), "pool", SHAPE), MinMax(4), RunLength()).eval()
    number = next(i for i, carrier in enumerate(model.coder.payload_coder.carriers) if carrier.quantizer is None)
    (payload,) = model.compress(digits(1))
    lies: list[Lie] = [{}, {}]
    lies[number] = lie
    with pytest.raises(CodecError):
        model.decompress([forged(model, payload, *lies)])


def test_a_bank_refuses_what_its_models_refuse() -> None:
    net = split(resnet8(), "layer2", SHAPE)
    members = [
        SplitModel(net, MinMax(bits), RunLength(), lambda shape: DepthwiseSeparable(shape, 4)).eval() for bits in (3, 4)
    ]
    model = VariableRateModel.of(members, [OperatingPoint(0.5, 1.0), OperatingPoint(0.6, 2.0)]).eval()
    (payload,) = members[0].compress(digits(1))
    assert model.decompress([payload, np.frombuffer(payload, np.int8)]).shape == (2, 10)
    for lie in ({"shape": (4, 2**20, 5)}, {"levels": 4}, {"floats": (0.0, float("inf"))}):
        with pytest.raises(CodecError):
            model.decompress([forged(members[0], payload, lie)])


def test_a_picture_larger_than_its_features_is_not_decoded() -> None:
    model = TiledFeatures(split(resnet8(), "layer1", SHAPE), MinMax(8), ImageFile("PNG")).eval()
    (payload,) = model.compress(digits(1))
    bomb = ImageFile("PNG").encode(np.zeros((3000, 3000), np.uint8))
    with pytest.raises(CodecError, match="an image of 3000×3000 pixels is larger than 16,384 in all"):
        model.decompress([forged(model, payload, {"code": bomb})])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "JPEG2000"])
def test_images_that_are_too_large_are_not_decoded(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = ImageFile(format)
    bomb = codec.encode(np.zeros((200, 300, 3), np.uint8))
    codec.max_pixels = 200 * 300
    assert codec.decode(bomb).shape == (200, 300, 3)
    codec.max_pixels -= 1
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(CodecError, match="an image of 200×300 pixels is larger than 59,999 in all: set max_pixels"):
        codec.decode(bomb)
    model = InputModel(resnet8(), codec).eval()
    with pytest.raises(ValueError, match="larger than 59,999 in all: set max_pixels"):
        model.compress(torch.zeros(1, 3, 200, 300))


def arrays() -> Sequence[tuple[NDArray[np.uint8], int]]:
    return [
        (np.zeros((4, 4, 4), np.uint8), 256),
        (np.zeros((4, 4, 3, 1), np.uint8), 256),
        (np.zeros(9, np.uint8), 256),
        (np.zeros((), np.uint8), 256),
        (np.zeros((0, 4, 3), np.uint8), 256),
        (np.zeros((4, 0), np.uint8), 256),
        (np.zeros((4, 4, 3), np.uint8), 17),
    ]


@pytest.mark.parametrize(("array", "levels"), arrays())
def test_what_is_no_image_is_refused(array: NDArray[np.uint8], levels: int) -> None:
    with pytest.raises(CodecError, match="the payload holds"):
        InputModel(resnet8(), Pixels()).eval().decompress([pack(array, levels, Raw())])


class Strict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits


def test_an_image_that_the_network_cannot_take_is_a_codec_error() -> None:
    model = InputModel(Strict(), Pixels()).eval()
    assert model.decompress(model.compress(digits(2))).shape == (2, 10)
    with pytest.raises(CodecError, match=r"the network fails on images of shape \(3, 5, 7\), which a payload holds"):
        model.decompress([pack(np.zeros((5, 7, 3), np.uint8), 256, Raw())])


def test_errors_of_the_network_itself_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = carra()
    payloads = model.compress(digits(1))
    monkeypatch.setattr(model.net.tail, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.decompress(payloads)


def test_channels_of_a_clipped_quantizer() -> None:
    model = SplitModel(split(resnet8(), "layer1", SHAPE), Clipped(channels=16), RunLength()).eval()
    (payload,) = model.compress(digits(1))
    code = RunLength().encode(np.zeros((15, 32, 32), np.uint8), 4)
    with pytest.raises(CodecError):
        model.decompress([forged(model, payload, {"shape": (15, 32, 32), "code": code})])


def test_shapes_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SplitModel(split(resnet8(), "layer1", SHAPE), Step(0.1), RunLength()).eval()
    payloads = model.compress(digits(1))
    monkeypatch.setattr(FeatureCoder, "latents", None)
    assert model.decompress(payloads).shape == (1, 10)


@cache
def detector(masks: bool) -> SplitModel:
    torch.manual_seed(0)
    build = mask_rcnn if masks else faster_rcnn
    network = build("resnet18", 3, min_size=64, max_size=96, pyramid=8, box_width=16, proposals=8)
    heads: Any = network.get_submodule("roi_heads")
    heads.score_thresh, heads.detections_per_img = 0.0, 2
    return SplitModel(split(network, "backbone.body.layer1", (3, 48, 64)), MinMax(4), Huffman()).eval()


@pytest.mark.parametrize("payload", [None, "text", 5, np.zeros(40)])
def test_what_is_no_payload_is_told(payload: Any) -> None:
    for model in (carra(), exits(), InputModel(resnet8(), ImageFile()).eval(), detector(False)):
        with pytest.raises((ValueError, TypeError), match=r"a payload is bytes|has no len"):
            model.decompress([payload])
