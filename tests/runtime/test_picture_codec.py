"""A package with an image codec: whole images are answered as by the unsplit network; hostile files are refused."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from splitlearn.codecs import CodecError, Huffman, ImageFile, RunLength
from splitlearn.commands.send import send
from splitlearn.config.messages import UsageError
from splitlearn.models import (
    NormalizedSeparable,
    OperatingPoint,
    PixelEncoder,
    PixelModel,
    SplitModel,
    UnfrozenSplitModel,
    VariableRateModel,
    resnet8,
    split,
)
from splitlearn.quantizers import MinMax, Step
from splitlearn.runtime import (
    Device,
    EdgeClient,
    Kind,
    LinkError,
    OnnxEdge,
    Package,
    PackageError,
    TorchDevice,
    TorchEdge,
    packaging,
    write_package,
)
from splitlearn.runtime.answers import Edge
from splitlearn.runtime.errors import Code
from splitlearn.runtime.forms import RawOutput, TopClasses
from splitlearn.runtime.onnx_export import ExportError, exported
from splitlearn.runtime.outcomes import Refusal, outcomes_of
from splitlearn.runtime.package_check import check_package
from splitlearn.runtime.package_file import WHOLE
from splitlearn.runtime.package_latency import time_packages
from splitlearn.runtime.picture_codec import Measured, PictureCodec
from splitlearn.runtime.protocol import Request, with_checksum
from splitlearn.runtime.rate_control import ladder
from splitlearn.runtime.streams import Batch
from tests.networks import SHAPE, Grey, digits
from tests.runtime.conftest import NORMALIZE, WEIGHTS, Packaged, edit, pixels
from tests.runtime.edges import run, server_of

COUNT = 12


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """A bank of two rates, the lower one poor, and pictures as WebP."""
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer3", SHAPE)
    rates = [SplitModel(net, MinMax(levels), RunLength(), normalize=NORMALIZE).eval() for levels in (2, 4)]
    model = VariableRateModel.of(rates, [OperatingPoint(0.8, 60.0), OperatingPoint(0.9, 300.0)]).eval()
    folder = tmp_path_factory.mktemp("pictured") / "package"
    write_package(model, folder, pixels(COUNT), TopClasses(3), picture=ImageFile("webp", 80))
    return Packaged(folder, model)


def edges(pictured: Packaged) -> list[Edge]:
    return [OnnxEdge(pictured.folder), TorchEdge(pictured.model, TopClasses(3), Package(pictured.folder).picture)]


def unsplit(model: Any, images: Tensor) -> list[int]:
    with torch.no_grad():
        logits = model.net.tail(*model.net.head(model.normalize(images)))
    return [int(found) for found in logits.argmax(1)]


def test_pictures_are_answered_as_by_the_unsplit_network(pictured: Packaged) -> None:
    device, package = Device(pictured.folder), Package(pictured.folder)
    assert package.picture is not None
    files = [device.picture(image) for image in pixels(COUNT)]
    assert files == [ImageFile("WEBP", 80).encode(image) for image in pixels(COUNT)]
    decoded = np.stack([package.picture.decode(file) for file in files])
    expected = unsplit(pictured.model, torch.from_numpy(decoded.transpose(0, 3, 1, 2) / np.float32(255)))
    for edge in edges(pictured):
        answers = edge.answer_pictures(files)
        assert [int(answer["classes"][0]) for answer in answers if not isinstance(answer, CodecError)] == expected
    measured = package.picture.measured
    assert measured is not None
    alike = [one == other for one, other in zip(expected, unsplit(pictured.model, digits(COUNT)), strict=True)]
    assert measured.score == pytest.approx(np.mean(alike))
    assert measured.bytes_per_image == pytest.approx(np.mean([len(file) for file in files]))
    assert package.manifest["check"]["equal_pictures"] == 1.0
    sizes = [[len(payload) for payload in pictured.model.compress(digits(COUNT), rate=n)] for n in (0, 1)]  # type: ignore[call-arg]
    assert [rate.bytes_per_image for rate in package.picture.rates] == pytest.approx([np.mean(own) for own in sizes])


def test_a_device_in_torch_sends_the_same_pictures(pictured: Packaged) -> None:
    [image] = pixels(1)
    device = TorchDevice(pictured.model, picture=Package(pictured.folder).picture)
    assert device.picture(image) == Device(pictured.folder).picture(image)
    for wrong in (image[:16], image[..., :1]):
        with pytest.raises(ValueError, match=r"pictures of this package are \(32, 32, 3\), got .*: prepare the image"):
            device.picture(wrong)


@pytest.mark.slow
def test_an_encoder_from_pixels_leaves_the_whole_network_to_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = partial(PixelEncoder, channels=6, width=8, depth=1, stride=8, patch=4, decoder_width=8, decoder_depth=1)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    model = PixelModel(net, Step(0.25), Huffman(), encoder, NORMALIZE).eval()
    found = write_package(model, tmp_path / "package", pixels(4), TopClasses(3), picture=ImageFile("PNG"))
    assert found.equal_pictures == 1.0
    package = Package(tmp_path / "package")
    assert package.picture is not None
    assert package.picture.measured is not None
    assert package.picture.measured.score == 1.0  # nothing is lost
    wanted = net(NORMALIZE(digits(4))).argmax(1).tolist()
    files = [package.picture.encode(image) for image in pixels(4)]
    for edge in (OnnxEdge(package), TorchEdge(model, TopClasses(3), package.picture)):
        answers = edge.answer_pictures(files)
        assert [int(answer["classes"][0]) for answer in answers if not isinstance(answer, CodecError)] == wanted


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def webp(image: np.ndarray[Any, Any], quality: int = 80) -> bytes:
    return ImageFile("WEBP", quality).encode(image)


def bomb() -> bytes:
    """A WebP that claims 8,192 × 8,192 pixels."""
    file = bytearray(webp(np.zeros((32, 32, 3), np.uint8)))
    start = file.index(b"\x9d\x01\x2a") + 3
    struct.pack_into("<HH", file, start, 8192, 8192)
    return bytes(file)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "noise": lambda: np.random.default_rng(0).bytes(400),
    "other format": lambda: png(32, 32),
    "larger": lambda: webp(np.zeros((33, 32, 3), np.uint8)),
    "smaller": lambda: webp(np.zeros((16, 32, 3), np.uint8)),
    "turned": lambda: webp(np.zeros((64, 16, 3), np.uint8)),
    "bomb": bomb,
    "truncated": lambda: webp(pixels(1)[0])[:-20],
    "head alone": lambda: webp(pixels(1)[0])[:30],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_an_error_each_and_do_no_harm_to_others(pictured: Packaged, name: str) -> None:
    good = webp(pixels(1)[0])
    for edge in edges(pictured):
        first, bad, last = edge.answer_pictures([good, HOSTILE[name](), good])
        assert isinstance(bad, CodecError)
        assert not isinstance(first, CodecError)
        assert not isinstance(last, CodecError)
        assert first["classes"].tolist() == last["classes"].tolist()


def test_no_pixel_of_a_picture_that_is_too_large_is_decoded(
    pictured: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Package(pictured.folder).picture
    assert picture is not None
    file = bomb()
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it is decoded"))
    with pytest.raises(CodecError, match="8192×8192 pixels, and the network takes 32×32"):
        picture.decode(file)


def test_payloads_and_pictures_are_served_together(pictured: Packaged) -> None:
    device = Device(pictured.folder)
    images = pixels(4)

    async def test() -> None:
        edge = OnnxEdge(pictured.folder)
        async with server_of(edge) as server, EdgeClient("127.0.0.1", server.port, edge.fingerprint) as client:
            asks = [client.ask(device.picture(image), kind=Kind.PICTURE) for image in images]
            asks += [client.ask(bytes(device.compress(image)), rate=1) for image in images]  # type: ignore[arg-type]
            replies = await asyncio.gather(*asks)
            wanted = unsplit(pictured.model, digits(4))
            assert [int(reply.arrays["classes"][0]) for reply in replies[:4]] == wanted
            with pytest.raises(LinkError, match=r"^image file not taken: .*only the layout of ImageFile") as caught:
                await client.ask(device.picture(images[0]) + bytes(9), kind=Kind.PICTURE)
            assert caught.value.code == Code.DAMAGED_PAYLOAD
            with pytest.raises(LinkError, match=r"pictures of this package are WEBP, .* is PNG; give .*") as caught:
                await client.ask(png(32, 32), kind=Kind.PICTURE)
            assert caught.value.code == Code.KIND_NOT_SERVED
            with pytest.raises(LinkError, match="damaged payload"):  # a picture that is called a payload
                await client.ask(device.picture(images[0]))

    run(test)


def test_no_damage_of_a_picture_on_its_way_goes_unnoticed(pictured: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = OnnxEdge(pictured.folder)
    content = with_checksum(webp(pixels(1)[0]))
    assert isinstance(outcomes_of(edge, Batch([Request(0, content, kind=Kind.PICTURE)])).results[0], bytes)
    damaged = [content[:n] + bytes([content[n] ^ 1 << n % 8]) + content[n + 1 :] for n in range(len(content))]
    damaged += [content[:n] for n in range(len(content))]
    damaged += [content + b"\0"]
    monkeypatch.setattr(edge, "answer_pictures", lambda _: pytest.fail("it gets as far as the decoder"))
    batch = Batch([Request(n, each, kind=Kind.PICTURE) for n, each in enumerate(damaged)])
    for outcome in outcomes_of(edge, batch).results:
        assert isinstance(outcome, Refusal)
        assert outcome.code == Code.DAMAGED_PAYLOAD
        assert "image file not taken: it has another CRC-32" in outcome.sentence


def copied(package: Path, folder: Path) -> Path:
    """Copy a package; return the folder."""
    for path in package.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_packages_of_before_have_no_pictures_and_servers_say_so(pictured: Packaged, tmp_path: Path) -> None:
    folder = copied(pictured.folder, tmp_path)
    edit(lambda about: about.pop("picture"))(folder)
    assert Package(folder).picture is None
    device = Device(folder)
    assert isinstance(device.compress(pixels(1)[0]), bytes)

    async def test() -> None:
        for edge in (OnnxEdge(folder), TorchEdge(pictured.model, TopClasses(3))):
            async with server_of(edge) as server, EdgeClient("127.0.0.1", server.port, edge.fingerprint) as client:
                with pytest.raises(LinkError, match=r"takes no image files: serve a --pack.*re\.format") as caught:
                    await client.ask(png(32, 32), kind=Kind.PICTURE)
                assert caught.value.code == Code.KIND_NOT_SERVED

    run(test)
    for without in (device, TorchDevice(pictured.model)):
        with pytest.raises(ValueError, match=r"no image codec: package the model with --picture\.format"):
            without.picture(pixels(1)[0])
    with pytest.raises(UsageError, match="--rate picture: this package has no image codec"):
        send([], folder, "127.0.0.1:9", Path(), rate="picture")


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"format": "WEBP"},
        {"format": 3, "quality": 80, "measured": []},
        {"format": "GIF", "quality": 80, "measured": []},
        {"format": "WEBP", "quality": 101, "measured": []},
        {"format": "WEBP", "quality": True, "measured": []},
        {"format": "WEBP", "quality": 80, "measured": [{"score": 2.0, "bytes_per_image": 1.0}] * 3},
        {"format": "WEBP", "quality": 80, "measured": [{"score": "0.5", "bytes_per_image": 1.0}] * 3},
        {"format": "WEBP", "quality": 80, "measured": [{"score": True, "bytes_per_image": 1.0}] * 3},
        {"format": "WEBP", "quality": 80, "measured": [{"score": 0.5, "bytes_per_image": 10**400}] * 3},
        {"format": "WEBP", "quality": 80, "measured": [{"score": 1.0, "bytes_per_image": 1.0}]},
    ],
    ids=str,
)
def test_entries_that_make_no_sense(pictured: Packaged, tmp_path: Path, wrong: Any) -> None:
    folder = copied(pictured.folder, tmp_path)
    edit(lambda about: about.update(picture=wrong))(folder)
    with pytest.raises(PackageError, match="contradicts itself"):
        Package(folder)


@pytest.mark.parametrize(
    "words",
    [
        {"rate": "picture"},
        pytest.param({"policy": "FixedRate", "rate": "picture", "deadline_ms": 20_000.0}, marks=pytest.mark.slow),
    ],
    ids=["always", "policy"],
)
def test_the_command_sends_pictures_and_says_so(pictured: Packaged, tmp_path: Path, words: dict[str, Any]) -> None:
    for n, image in enumerate(pixels(3)):
        Image.fromarray(image).save(tmp_path / f"{n}.png")

    async def test() -> None:
        async with server_of(OnnxEdge(pictured.folder)) as server:
            to = f"127.0.0.1:{server.port}"
            await asyncio.to_thread(send_in_its_own_process, pictured.folder, to, tmp_path, words)

    run(test)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    sizes = [str(len(webp(image))) for image in pixels(3)]
    assert [(row["outcome"], row["rate"], row["bytes"]) for row in rows] == [("answered", "picture", n) for n in sizes]


@pytest.mark.parametrize("words", [{}, {"policy": "FixedRate", "deadline_ms": 20_000.0}], ids=["always", "policy"])
@pytest.mark.parametrize(
    "other",
    [None, pytest.param({"format": "PNG", "quality": 80, "measured": []}, marks=pytest.mark.slow)],
    ids=["none", "PNG"],
)
def test_images_are_sent_as_payloads_to_a_server_that_takes_no_such_pictures(
    pictured: Packaged, tmp_path: Path, words: dict[str, Any], other: dict[str, Any] | None
) -> None:
    (tmp_path / "served").mkdir()
    served = copied(pictured.folder, tmp_path / "served")
    edit(lambda about: about.update(picture=other))(served)
    (tmp_path / "images").mkdir()
    for n, image in enumerate(pixels(5)):
        Image.fromarray(image).save(tmp_path / "images" / f"{n}.png")
    told = ""

    async def test() -> None:
        nonlocal told
        async with server_of(OnnxEdge(served)) as server:
            asked = (pictured.folder, f"127.0.0.1:{server.port}", tmp_path / "images", {"rate": "picture", **words})
            told = await asyncio.to_thread(send_in_its_own_process, *asked)
            counts = server.statistics.requests
            assert sum(n for (outcome, _, kind), n in counts.items() if (outcome, kind) == ("answered", "payload")) == 5

    run(test)
    assert told.count("from here on, images are sent as payloads") == 1
    with (tmp_path / "images" / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["outcome"], row["error"]) for row in rows] == [("answered", "")] * 5
    picture = Package(pictured.folder).picture
    assert picture is not None
    rate = ladder(picture.rates)[-1] if words else 1  # by the scores of the check, or by those of the bank
    assert {row["rate"] for row in rows} == {str(rate) if words else ""}
    sizes = [len(payload) for payload in pictured.model.compress(digits(5), rate=rate)]  # type: ignore[call-arg]
    assert [int(row["bytes"]) for row in rows] == sizes


def send_in_its_own_process(package: Path, to: str, images: Path, words: dict[str, Any]) -> str:
    without = "import sys; sys.modules['torch'] = None"
    code = f"{without}; from splitlearn.commands.command_line import main; sys.exit(main())"
    options = [f"--{name}={value}" for name, value in words.items()]
    command = ["send", "--package", package, "--to", to, "--images", images, "--out", images / "out", *options]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG", "AVIF"])
def test_grey_pictures_stay_grey(format: str) -> None:
    grey = pixels(1)[0, ..., :1].copy()
    codec = PictureCodec(format, 90, (1, 32, 32))
    found = codec.decode(codec.encode(grey))
    assert found.shape == (32, 32, 1)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(float) - grey).mean() < (0.1 if format == "PNG" else 6)


def test_grey_networks_answer_pictures() -> None:
    torch.manual_seed(0)
    model = SplitModel(split(Grey(), "features", (1, 32, 32)), MinMax(8), Huffman()).eval()
    codec = PictureCodec("PNG", 90, (1, 32, 32))
    [answer] = TorchEdge(model, RawOutput(), codec).answer_pictures([codec.encode(pixels(1)[0, ..., :1])])
    assert not isinstance(answer, CodecError)
    [own] = model.net.tail(*model.net.head(digits(1)[:, :1])).detach().numpy()
    np.testing.assert_allclose(answer["output"], own, atol=1e-4)


def test_a_wrong_graph_of_the_whole_network_is_noticed(pictured: Packaged, tmp_path: Path) -> None:
    folder = copied(pictured.folder, tmp_path)
    torch.manual_seed(1)
    wrong: bytes = exported(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval(), (torch.zeros(2, *SHAPE),))
    (folder / WHOLE).write_bytes(wrong)
    about = {"bytes": len(wrong), "sha256": hashlib.sha256(wrong).hexdigest()}
    edit(lambda manifest: manifest["files"].update({WHOLE: about}))(folder)
    with pytest.raises(PackageError, match="of the answers to pictures are those of the model"):
        check_package(folder, pictured.model, pixels(4), TopClasses(3))


def test_a_whole_network_that_does_not_export_is_answered_in_torch(
    pictured: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> bytes:
        raise ExportError("it does not export to ONNX: for this test")

    monkeypatch.setattr(packaging, "exported", refuses)
    write_package(pictured.model, tmp_path / "package", pixels(2), TopClasses(3), picture=ImageFile("JPEG", 75))
    package = Package(tmp_path / "package")
    assert not package.has_whole
    assert package.picture is not None
    assert package.picture.measured is not None
    edge = TorchEdge(pictured.model, TopClasses(3), package.picture)
    edge.warm_up()
    assert not isinstance(edge.answer_pictures([package.picture.encode(pixels(1)[0])])[0], CodecError)


def test_a_network_trained_with_its_bottleneck_answers_no_pictures(tmp_path: Path) -> None:
    bottleneck = partial(NormalizedSeparable, channels=4, stride=2)
    model = UnfrozenSplitModel(split(resnet8(weights=WEIGHTS), "layer2", SHAPE), MinMax(4), Huffman(), bottleneck)
    with pytest.raises(PackageError, match="trained together with it: leave --picture out"):
        write_package(model.eval(), tmp_path / "package", pixels(2), TopClasses(3), picture=ImageFile("WEBP", 80))


def test_pictures_of_a_package_are_timed(pictured: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.latencies.PAUSE_S", 0.0)
    found = time_packages([Package(pictured.folder)], list(pixels(3)), 2)
    [own] = [each for each in found.pictures if each.name == "WEBP 80"]
    assert own.bytes_per_image == pytest.approx(np.mean([len(webp(image)) for image in pixels(3)]))
    assert not found.whole_has_bottleneck


def test_a_record_is_read_as_it_was_written() -> None:
    codec = PictureCodec("AVIF", 50, SHAPE, Measured(0.9, 300.0), (Measured(0.5, 20.0),))
    assert PictureCodec.of(codec.record(), SHAPE, 1) == codec
    assert PictureCodec.of(PictureCodec("AVIF", 50, SHAPE).record(), SHAPE, 1).measured is None
