"""The models whose payloads fuzz_payloads forges: small networks of every kind, each with codecs of its own."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from splitlearn import codecs
from splitlearn.codecs import ImageCodec
from splitlearn.codecs.container import pack_code
from splitlearn.models import (
    DepthwiseSeparable,
    EarlyExitModel,
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
from splitlearn.models.pipelines.base import CompressionModel
from splitlearn.models.pipelines.int8 import to_int8
from splitlearn.quantizers import Affine, Clipped, MinMax, Step
from splitlearn.testing.damage import damaged
from splitlearn.testing.forged_payloads import Forger

SHAPE = (3, 32, 32)
SIDE = 96  # pixels: of the largest square image that InputModel and detectors take here
GROWTH = 4  # likewise of the networks that take images of any size: twice as high and wide as the example
Draw = Callable[[random.Random], tuple[str, bytes]]


@dataclass(frozen=True)
class Subject:
    """A model and its payloads.

    Attributes:
        model: what decodes them.
        draw: forges one: what was done, and the payload.
        honest: payloads of images.
        largest: payloads of the largest images that the model takes; memory is compared with theirs.
        parts: containers in a payload.
    """

    model: CompressionModel
    draw: Draw
    honest: list[bytes]
    largest: list[bytes]
    parts: int = 1


class Unpooling(nn.Module):
    """Integers cross: the places that the maxima came from."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """Return a map of logits."""
        pooled, indices = self.pool(self.first(images))
        logits: Tensor = self.last(self.unpool(pooled, indices))
        return logits


class Scales(nn.Module):
    """Maps of two sizes cross, which must fit each other."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(4, 8, 3, 2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return a map of logits."""
        fine = self.fine(images).relu()
        logits: Tensor = self.last(torch.cat([fine, self.up(self.coarse(fine).relu())], 1))
        return logits


def pictures(*size: int, count: int = 4) -> Tensor:
    """Return images of smooth noise, `(count, 3, *size)`."""
    noise = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(noise, size, mode="bilinear")


def of_split(model: SplitModel | TiledFeatures, larger: bool = False) -> Subject:
    """Return a model that is cut, with payloads of images as large as the example and perhaps of larger ones."""
    model.eval().net.max_growth = GROWTH
    honest = model.compress(pictures(32, 32))
    largest = model.compress(pictures(64, 64, count=1)) if larger else honest[:1]
    return Subject(
        model, Forger(model, honest + largest).draw, honest, largest, len(model.coder.payload_coder.carriers)
    )


def several(parts: Sequence[Subject], whole: CompressionModel, honest: list[bytes]) -> Subject:
    """Return a model whose payloads are those of others."""

    def draw(rng: random.Random) -> tuple[str, bytes]:
        return rng.choice(parts).draw(rng)

    return Subject(whole, draw, honest, honest[:1])


def plain() -> Subject:
    """Features as they are, limits in the payload, images of any size."""
    return of_split(SplitModel(split(resnet8(), "layer1", SHAPE), MinMax(4), codecs.Huffman()), larger=True)


def bottleneck() -> Subject:
    """A bottleneck, a fixed step, static tables."""
    net, unit = split(resnet8(), "layer2", SHAPE), partial(DepthwiseSeparable, channels=8)
    model = SplitModel(net, Step(0.05), codecs.Huffman(), unit).eval()
    symbols = [s.numpy() for s in model.symbols(pictures(32, 32))[0]]
    model.coder.codecs = (codecs.Huffman.fit(symbols, 256),)
    return of_split(model)


def clipped() -> Subject:
    """Levels and tables of each channel."""
    net = split(resnet8(), "layer1", SHAPE)
    quantizer = Clipped(0.0, 2.0, levels=5, channels=16)
    model = SplitModel(net, quantizer, codecs.RANS(per_channel=True)).eval()
    symbols = [s.numpy() for s in model.symbols(pictures(32, 32))[0]]
    model.coder.codecs = (codecs.RANS(per_channel=True).fitted(symbols, 5),)
    return of_split(model, larger=True)


def tensors() -> Subject:
    """Two tensors cross, with quantizers and codecs of their own."""
    net = split(resnet8(), "layer2.0.conv1", SHAPE)
    quantizers, coders = [MinMax(3), Clipped(0.0, 1.0, levels=6)], [codecs.ContextRANS(), codecs.Zstandard()]
    return of_split(SplitModel(net, quantizers, coders), larger=True)


def scales() -> Subject:
    """Two tensors cross whose sizes must fit."""
    return of_split(SplitModel(split(Scales(), "coarse", SHAPE), MinMax(8), codecs.Deflate()), larger=True)


def unpooling() -> Subject:
    """A tensor of integers crosses."""
    return of_split(SplitModel(split(Unpooling(), "pool", SHAPE), MinMax(8), codecs.RunLength()), larger=True)


def bank() -> Subject:
    """Three rates of one network."""
    net = split(resnet8(), "layer2", SHAPE)
    members = [
        SplitModel(net, MinMax(bits), coder, partial(DepthwiseSeparable, channels=channels)).eval()
        for bits, coder, channels in ((4, codecs.RANS(), 4), (6, codecs.TruncatedUnary(), 8), (8, codecs.Raw(), 16))
    ]
    points = [OperatingPoint(0.5 + rate / 10, 100.0 * rate) for rate in range(3)]
    model = VariableRateModel.of(members, points).eval()
    found = [of_split(member) for member in members]
    forgers = [Forger(m, f.honest, (n, n, 0, 1, 2)) for n, (m, f) in enumerate(zip(members, found, strict=True))]
    subjects = [Subject(m, f.draw, [], []) for m, f in zip(members, forgers, strict=True)]
    honest = [p for rate in range(3) for p in model.compress(pictures(32, 32), rate=rate)]
    return several(subjects, model, honest)


def exits() -> Subject:
    """An early exit; only images that it is not sure of are sent."""
    net = split(resnet8(), "layer2", SHAPE)
    return of_split(EarlyExitModel(net, Affine(0.05, 20), codecs.CompressedSparseRow(), ["layer1"], threshold=1.0))


def limits_of_exits() -> Subject:
    """An early exit whose payloads tell their limits: extreme ones must not look like an empty payload."""
    net = split(resnet8(), "layer2", SHAPE)
    return of_split(EarlyExitModel(net, MinMax(4), codecs.RANS(), ["layer1"], threshold=1.0))


def int8() -> Subject:
    """A network in eight-bit integers."""
    model = SplitModel(split(resnet8(), "layer2", SHAPE), Affine(0.05), codecs.ContextRANS()).eval()
    return of_split(to_int8(model, [pictures(32, 32)]).model)


def tiled(format: str) -> Subject:
    """Features as a picture."""
    model = TiledFeatures(split(resnet8(), "layer1", SHAPE), MinMax(8), ImageFile(format, 60)).eval()
    return of_split(model, larger=True)


def detector(build: Callable[..., nn.Module], at: str, quantizer: Any, coder: codecs.Codec) -> Subject:
    """An R-CNN of torchvision, on images of several sizes; theirs cross as integers."""
    network = build("resnet18", 3, min_size=32, max_size=48, pyramid=8, box_width=16, proposals=5)
    heads: Any = network.get_submodule("roi_heads")
    heads.score_thresh, heads.detections_per_img = 0.0, 4
    model = SplitModel(split(network, at, (3, 32, 48)), quantizer, coder).eval()
    model.net.max_pixels = SIDE * SIDE
    images = [pictures(*size, count=1)[0] for size in ((32, 48), (40, 30), (60, 60), (20, 70))]
    honest = model.compress(images)
    largest = model.compress([pictures(SIDE, SIDE, count=1)[0]])
    return Subject(
        model, Forger(model, honest + largest).draw, honest, largest, len(model.coder.payload_coder.carriers)
    )


def image_file(codec: ImageCodec, huge: int = 6000) -> Subject:
    """The image itself crosses; among what is refused are files of `huge` × `huge` pixels."""
    codec.max_pixels = SIDE * SIDE
    model = InputModel(resnet8(), codec).eval()
    honest = model.compress(pictures(32, 32)) + model.compress(pictures(20, 70))
    largest = model.compress(pictures(SIDE, SIDE, count=1))
    sizes = [(1, 1), (1, SIDE**2), (1, SIDE**2 + 1), (SIDE, SIDE), (SIDE + 1, SIDE), (2000, 2000), (7, 3), (300, 1)]
    if not isinstance(codec, Pixels):  # whose bytes are as many as its pixels
        sizes.append((huge, huge))
    plain_pictures = [codec.encode(np.full((h, w, 3), 9, np.uint8)) for h, w in sizes if max(h, w) < 16_000]
    grey = [codec.encode(np.full((h, w), 9, np.uint8)) for h, w in sizes[:4]]
    return Subject(model, partial(forged_image, honest + largest, plain_pictures + grey, codec), honest, largest)


def forged_image(
    honest: Sequence[bytes], others: Sequence[bytes], codec: ImageCodec, rng: random.Random
) -> tuple[str, bytes]:
    """Return what was done, and the file of an image: damaged, of another size, or one that claims another size."""
    payload, donor = rng.sample([*honest, *others], 2)
    kind = rng.random()
    if kind < 0.1:
        return "another image", payload
    if kind < 0.6:
        return "damaged", damaged(payload, donor, rng)[1]
    if isinstance(codec, Pixels):
        shape = rng.choice(((2**31 - 1,), (0, 5, 3), (5, 0), (4, 4, 4), (6, 8, 3), (9, 7), (32, 32, 3, 1), ()))
        size = min(int(np.prod(shape, dtype=np.int64)), 4000)
        return "forged", pack_code(bytes(size), shape, rng.choice((2, 256)), codecs.Raw(), (0.5,) * rng.randrange(2))
    return "forged", claims(payload, rng)


def claims(payload: bytes, rng: random.Random) -> bytes:
    """Return a file that claims another size, PNG's checksum made right, or asks its decoder for more work."""
    if payload[1:4] == b"PNG":
        size = (rng.choice((0, 1, 31, 2**16, 2**31 - 1)), rng.choice((1, 32, 64, 2**15, 2**31 - 1)))
        depth = bytes(rng.choice(((8, 2), (16, 2), (8, 6), (1, 0), (8, 3), (16, 0), (7, 9)))) + payload[26:29]
        header = b"IHDR" + b"".join(n.to_bytes(4, "big") for n in size) + depth
        return payload[:12] + header + zlib.crc32(header).to_bytes(4, "big") + payload[33:]
    if b"ispe" in payload:  # AVIF, HEIC: the size stands beside the picture, which has its own
        at = payload.index(b"ispe") + 8
        sides = [rng.choice((0, 1, 32, SIDE, 2**15, 2**31)) for _ in range(2)]
        return payload[:at] + b"".join(n.to_bytes(4, "big") for n in sides) + payload[at + 8 :]
    if payload[:2] == b"\xff\x4f":  # JPEG 2000: precincts, layers, levels and blocks stand behind a marker
        at = payload.index(b"\xff\x52") + 4
        return payload[:at] + bytes(rng.choice((0, 0, 1, 4, 5, 255)) for _ in range(10)) + payload[at + 10 :]
    if payload[:2] == b"\xff\xd8" and rng.random() < 0.3:  # JPEG: the same scan again and again
        return payload[:-2] + payload[payload.index(b"\xff\xda") : -2] * rng.choice((1, 30, 2000)) + b"\xff\xd9"
    if payload[:2] == b"\xff\xd8":  # height and width stand behind a marker
        at = payload.find(b"\xff\xc0") if b"\xff\xc0" in payload else payload.find(b"\xff\xc2")
        return payload[: at + 5] + rng.choice((b"\xff\xff\xff\xff", rng.randbytes(4))) + payload[at + 9 :]
    file = io.BytesIO()  # another format than the one that is expected
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, rng.choice(("PNG", "GIF", "BMP", "TIFF", "PPM")))
    return file.getvalue()


MODELS: dict[str, Callable[[], Subject]] = {
    "MinMax, Huffman": plain,
    "bottleneck, Step, static Huffman": bottleneck,
    "Clipped and static RANS by channel": clipped,
    "two tensors, ContextRANS and Zstandard": tensors,
    "maps of two sizes, Deflate": scales,
    "integers cross, RunLength": unpooling,
    "bank of RANS, TruncatedUnary, Raw": bank,
    "early exit, Affine, CompressedSparseRow": exits,
    "early exit, MinMax, RANS": limits_of_exits,
    "INT8, ContextRANS": int8,
    "tiled features, PNG": partial(tiled, "PNG"),
    "tiled features, JPEG": partial(tiled, "JPEG"),
    "image as PNG": lambda: image_file(ImageFile("PNG")),
    "image as JPEG": lambda: image_file(ImageFile("JPEG")),
    "image as WebP": lambda: image_file(ImageFile("WEBP")),
    "image as AVIF": lambda: image_file(ImageFile("AVIF"), 3000),
    "image as JPEG 2000": lambda: image_file(ImageFile("JPEG2000", 35), 3000),
    "image as BMP": lambda: image_file(ImageFile("BMP"), 2000),
    "image as PPM": lambda: image_file(ImageFile("PPM"), 2000),
    "image as pixels": lambda: image_file(Pixels()),
    "Faster R-CNN, Huffman": partial(detector, faster_rcnn, "backbone.body.layer1", MinMax(4), codecs.Huffman()),
    "Faster R-CNN, whole backbone": partial(detector, faster_rcnn, "backbone", Step(0.1), codecs.RANS()),
    "Mask R-CNN, RunLength": partial(detector, mask_rcnn, "backbone.body.layer2", MinMax(8), codecs.RunLength()),
}
