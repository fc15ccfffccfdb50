"""Videos through packages: the answers are those of the frames by themselves, whoever runs the halves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.commands import main
from splitlearn.runtime import Device, Edge, OnnxEdge, TorchDevice, TorchEdge
from splitlearn.runtime.device_stream import DeviceStream
from splitlearn.runtime.errors import Code, NotServedError
from splitlearn.runtime.forms import TopClasses
from splitlearn.runtime.outcomes import Refusal, outcomes_of
from splitlearn.runtime.preparation import CentreCropTo, Resize
from splitlearn.runtime.protocol import Kind, Request, read_arrays, write_arrays
from splitlearn.runtime.sent import Sent, summary
from splitlearn.runtime.streams import Batch
from tests.runtime.conftest import Packaged, edit, pixels
from tests.runtime.test_sending import rows_of

av = pytest.importorskip("av")
RATE = 1  # with ContextRANS


def scene() -> list[NDArray[np.uint8]]:
    """A digit that a few noisy pixels change from frame to frame, and one frame twice."""
    rng = np.random.default_rng(0)
    [digit] = pixels(1)
    found = []
    for number in range(6):
        frame = digit.copy()
        frame[number : number + 4, 4:12] = rng.integers(0, 256, (4, 8, 3))
        found.append(frame)
    return [*found, found[-1]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a video without loss, with frames that do not come regularly."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for number, image in enumerate(scene()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def answers_to(edge: Edge, stream: DeviceStream) -> list[bytes | Refusal]:
    payloads = [stream.compress(image) for image in scene()]
    assert all(isinstance(payload, bytes) for payload in payloads)
    requests = [Request(n, payload, 0, RATE, Kind.FRAME) for n, payload in enumerate(payloads)]  # type: ignore[arg-type]
    return list(outcomes_of(edge, Batch(requests, [0] * len(requests), [None])).results)


@pytest.mark.parametrize("half", ["onnx", "torch"])
def test_answers_are_those_of_the_frames_by_themselves(half: str, bank: Packaged) -> None:
    device: Device | TorchDevice = Device(bank.folder) if half == "onnx" else TorchDevice(bank.model)
    edge: Edge = OnnxEdge(bank.folder) if half == "onnx" else TorchEdge(bank.model, TopClasses(3))
    edge.warm_up()
    stream = device.stream(rate=RATE)
    for image, found in zip(scene(), answers_to(edge, stream), strict=True):
        [alone] = edge.answer([device.compress(image, rate=RATE)])  # type: ignore[list-item]
        assert isinstance(found, bytes)
        assert not isinstance(alone, Exception)
        told, wanted = read_arrays(found), read_arrays(write_arrays(alone))
        np.testing.assert_array_equal(told["classes"], wanted["classes"])
        np.testing.assert_allclose(told["scores"], wanted["scores"], rtol=1e-5)


def test_devices_and_edges_in_torch_and_without_it_understand_each_other(bank: Packaged) -> None:
    onnx = answers_to(OnnxEdge(bank.folder), TorchDevice(bank.model).stream(rate=RATE, margin=0.1))
    torch = answers_to(TorchEdge(bank.model, TopClasses(3)), Device(bank.folder).stream(rate=RATE, margin=0.1))
    for one, other in zip(onnx, torch, strict=True):
        assert isinstance(one, bytes)
        assert isinstance(other, bytes)
        np.testing.assert_array_equal(read_arrays(one)["classes"], read_arrays(other)["classes"])


def test_packages_say_whether_they_take_streams(bank: Packaged) -> None:
    device, edge = Device(bank.folder), OnnxEdge(bank.folder)
    assert [rate.takes_streams for rate in device.package.rates] == [False, True, False]
    for half in (device, TorchDevice(bank.model)):
        with pytest.raises(ValueError, match=r"Huffman, takes no reference .* package the model with ContextRANS"):
            half.stream(rate=0)
        with pytest.raises(ValueError, match="has rates 0…2, got 3"):
            half.stream(rate=3)
    for served in (edge, TorchEdge(bank.model, TopClasses(3))):
        with pytest.raises(NotServedError, match="takes no reference"):
            served.stream_coder(0)
    requests = [Request(0, b"\xd0" + bytes(20), 0, 0, Kind.FRAME)]
    [refusal] = outcomes_of(edge, Batch(requests, [0], [None])).results
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.KIND_NOT_SERVED


@pytest.fixture
def send(
    bank: Packaged, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any], list[dict[str, str]]]]:
    """Send the film to a server of the bank; return status, results and rows."""
    from tests.runtime.served import served_in_thread

    def act(*words: str, video: Path = film) -> tuple[int, dict[str, Any], list[dict[str, str]]]:
        out = tmp_path / "-".join(["out", *words])
        with served_in_thread(OnnxEdge(bank.folder)) as port:
            to = f"127.0.0.1:{port}"
            command = ["send", "--package", bank.folder, "--to", to, "--video", video, "--out", out, *words]
            monkeypatch.setattr(sys, "argv", ["splitlearn", *map(str, command)])
            status = main()
        if not (out / "results.json").exists():
            return status, {}, []
        return status, json.loads((out / "results.json").read_text()), rows_of(out)

    return act


def test_videos_are_sent_as_streams(send: Callable[..., Any]) -> None:
    status, figures, rows = send("--rate", "1")
    alone_status, alone, alone_rows = send("--rate", "1", "--key_every", "1")
    assert (status, alone_status) == (0, 0)
    assert [row["frame"] for row in rows] == ["key"] + ["delta"] * 5 + ["repeat"]
    assert [row["frame"] for row in alone_rows] == [""] * 7
    columns = ("name", "class", "score")
    assert [[row[c] for c in columns] for row in rows] == [[row[c] for c in columns] for row in alone_rows]
    assert [float(row["seconds"]) for row in rows] == pytest.approx([n * n / 25 for n in range(7)], abs=2e-3)
    assert figures["send/bytes_per_image"] < 0.6 * alone["send/bytes_per_image"]
    counts = [figures[f"send/{kind}_frames"] for kind in ("key", "delta", "repeat")]
    assert counts == [1, 5, 1]
    assert figures["send/bytes_per_repeat_frame"] == 13
    shown = 36 / 25 * 7 / 6
    assert figures["send/bytes_per_second"] == pytest.approx(7 * figures["send/bytes_per_image"] / shown, rel=1e-2)


def test_a_run_that_goes_on_begins_with_a_key_frame(
    bank: Packaged, film: Path, tmp_path: Path, send: Callable[..., Any]
) -> None:
    from splitlearn.runtime.sent import Journal

    out = tmp_path / "out---rate-1"
    choices = {"rate": 1, "budget": None, "policy": None, "deadline_ms": None, "interval_ms": None}
    options = {"margin": 0.0, "key_every": 250, "key_bytes": None, "skip": 0.0}
    about = {"package": Device(bank.folder).package.fingerprint, "source": str(film)}
    with Journal(out, about | choices | options) as journal:
        for number in range(3):
            journal.add(Sent(f"{number:06d}", "answered", 7, answer={"classes": [1], "scores": [1.0]}))
    status, _, rows = send("--rate", "1")
    assert status == 0
    assert [row["frame"] for row in rows] == ["", "", "", "key", "delta", "delta", "repeat"]
    assert [row["bytes"] for row in rows[:3]] == ["7"] * 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "takes no reference to the frame before: package the model with ContextRANS"),
        (("--rate", "1", "--margin", "0.6"), "error: --margin is 0…0.5"),
        (("--rate", "1", "--key_every", "0"), "error: --key_every must be a whole number, at least 1"),
        (("--rate", "1", "--key_every", "1", "--margin", "0.1"), "--margin is of a stream"),
        (("--budget", "99", "--skip", "0.1"), "--skip is of a stream"),
    ],
)
def test_wrong_words_get_one_sentence(words: tuple[str, ...], told: str, send: Callable[..., Any], capfd: Any) -> None:
    status, _, _ = send(*words)
    error = capfd.readouterr().err
    assert status in (1, 2)
    assert told in error
    assert error.count("\n") == 1


def test_margins_need_fixed_levels(bank: Packaged, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "package"
    shutil.copytree(bank.folder, folder)

    def change(about: dict[str, Any]) -> None:
        about["rates"][2]["carriers"][0]["codec"] = {"class_path": "splitlearn.codecs.ContextRANS", "init_args": {}}

    edit(change)(folder)
    device = Device(folder)
    assert device.stream(rate=2).compress(pixels(1)[0])
    with pytest.raises(ValueError, match="levels of MinMaxGrid differ from frame to frame"):
        device.stream(rate=2, margin=0.1)


def test_frames_of_other_sizes_are_prepared(bank: Packaged) -> None:
    device = Device(bank.folder)
    assert device.package.preparation == [Resize(32), CentreCropTo(32, 32)]
    stream = device.stream(rate=RATE)
    for size in (40, 64, 32):
        image = np.zeros((size, size, 3), np.uint8)
        assert isinstance(stream.compress(device.prepare(image)), bytes)
        if size != 32:
            with pytest.raises(ValueError, match="bring it to that size"):
                stream.compress(image)


def test_figures_of_a_video() -> None:
    rows = [Sent("0", "answered", 100, frame="key", seconds=0.0), Sent("1", "failed", seconds=0.5)]
    rows.append(Sent("2", "answered", 20, frame="delta", seconds=1.0))
    found = summary(rows, 1.0)
    assert found["send/bytes_per_second"] == 120 / 1.5
    assert (found["send/key_frames"], found["send/bytes_per_delta_frame"]) == (1, 20)
    assert "send/bytes_per_second" not in summary([Sent("a", "answered", 5)], 1.0)
