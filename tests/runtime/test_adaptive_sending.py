"""Sending by a policy: rates are reported, exits answer without a link, and nothing is sent too late."""

from __future__ import annotations

import asyncio
import csv
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from splitlearn.commands.send import send
from splitlearn.config.messages import UsageError
from splitlearn.decoding import DataError
from splitlearn.models import EarlyExitModel
from splitlearn.runtime import DeadlinePolicy, Device, EdgeClient, FixedRate, OnnxEdge, TorchDevice
from splitlearn.runtime.decisions import AsPicture, AtRate
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.pictures import Picture
from splitlearn.runtime.rate_control import Always
from splitlearn.runtime.security import SecurityError
from splitlearn.runtime.sending import Pace, send_pictures
from splitlearn.runtime.sent import Journal, Sent, write_results
from tests.runtime.conftest import Packaged, pixels
from tests.runtime.edges import FINGERPRINT, Reverse, run, server_of
from tests.runtime.fake_device import FakeDevice


def pictures(count: int) -> list[Picture]:
    found = [Image.fromarray(image) for image in pixels(count)]
    return [Picture(f"{n:02d}", partial(image.copy)) for n, image in enumerate(found)]


class Slow(FakeDevice):
    """A device that takes 60 ms for each image."""

    def compress(self, image: NDArray[np.uint8], rate: int | None = None, budget: int | None = None) -> bytes:
        time.sleep(0.06)
        return b"payload"


def test_a_policy_chooses_rates_that_are_reported(bank: Packaged, tmp_path: Path) -> None:
    device, rows = Device(bank.folder), list[Sent]()
    journal = Journal(tmp_path / "out", {})
    policy = DeadlinePolicy(device.package.rates, device.has_exits)

    async def test() -> None:
        edge = OnnxEdge(bank.folder)
        async with (
            server_of(edge) as server,
            EdgeClient("127.0.0.1", server.port, device.package.fingerprint) as client,
        ):
            rows.extend(await send_pictures(device, client, pictures(12), journal, policy, Pace(20_000, None, 1)))

    run(test)
    assert {row.outcome for row in rows} == {"answered"}
    assert [row.rate for row in rows] == [0] * 4 + [1] * 5 + [2] * 3  # five in a row for each step, on any machine
    write_results(journal, [row.name for row in rows], {}, [])
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert [row["rate"] for row in csv.DictReader(file)] == ["0"] * 4 + ["1"] * 5 + ["2"] * 3


@pytest.mark.slow
def test_exits_answer_when_the_link_is_gone(exits: Packaged, tmp_path: Path) -> None:
    device, rows = Device(exits.folder), list[Sent]()
    journal = Journal(tmp_path, {})
    policy = FixedRate(device.package.rates, device.has_exits)

    async def test() -> None:
        server = server_of(OnnxEdge(exits.folder))
        await server.start()
        async with EdgeClient("127.0.0.1", server.port, device.package.fingerprint) as client:
            await server.stop()
            rows.extend(await send_pictures(device, client, pictures(12), journal, policy, Pace(5_000)))

    run(test)
    rows = list(journal.rows([row.name for row in rows]))
    journal.close()
    assert {(row.outcome, row.rate) for row in rows} == {("exited", None)}
    assert {row.note for row in rows} == {"no link: an exit answers, whatever its confidence"}
    assert [row.answer["classes"][0] for row in rows] == [
        int(device.local_answer(image).logits.argmax()) for image in pixels(12)
    ]


@pytest.mark.slow
def test_both_devices_answer_alike_without_a_link(exits: Packaged, bank: Packaged) -> None:
    assert isinstance(exits.model, EarlyExitModel)
    device, torch_device = Device(exits.folder), TorchDevice(exits.model)
    numbers = []
    for image in pixels(12):
        local, other = device.local_answer(image), torch_device.local_answer(image)
        assert local.exit == other.exit
        np.testing.assert_allclose(local.logits, other.logits, atol=1e-4)
        assert local.confidence == pytest.approx(other.confidence, abs=1e-4)
        sent = device.compress(image)
        assert isinstance(sent, bytes) or sent.exit == local.exit
        numbers.append((local.exit, isinstance(sent, bytes)))
    assert set(numbers) == {(0, False), (1, False), (1, True)}  # those that would be sent: by the last exit
    assert device.has_exits
    assert torch_device.has_exits
    for without in (Device(bank.folder), TorchDevice(bank.model)):
        assert not without.has_exits
        with pytest.raises(ValueError, match="has no exits"):
            without.local_answer(pixels(1)[0])


def test_no_picture_is_sent_of_an_image_that_an_exit_answers(exits: Packaged) -> None:
    assert isinstance(exits.model, EarlyExitModel)
    codec = PictureCodec("WEBP", 80, (3, 32, 32))
    device, torch_device = Device(exits.folder), TorchDevice(exits.model, picture=codec)
    device.package.picture = codec
    for image in pixels(12):
        payload = device.compress(image)
        for each in (device, torch_device):
            made = AsPicture().carry_out(each, image)
            if isinstance(payload, bytes):
                assert made == codec.encode(image)
            else:
                assert not isinstance(made, bytes)
                assert made.exit == payload.exit
    sent = [isinstance(device.compress(image), bytes) for image in pixels(12)]
    assert set(sent) == {True, False}


def test_a_single_rate_has_the_number_0(exits: Packaged) -> None:
    device = TorchDevice(exits.model)
    for image in pixels(4):
        assert isinstance(device.compress(image, 0), bytes) == isinstance(device.compress(image), bytes)
    with pytest.raises(ValueError, match="a single rate"):
        device.compress(image, 1)


def test_images_that_waited_too_long_for_the_device_are_not_sent(tmp_path: Path) -> None:
    edge, rows = Reverse(), list[Sent]()
    journal = Journal(tmp_path, {})

    async def test() -> None:
        async with server_of(edge) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            pace, policy = Pace(40, interval_ms=20), Always(AtRate())
            rows.extend(await send_pictures(Slow(), client, pictures(6), journal, policy, pace))

    run(test)
    journal.close()
    assert {row.outcome for row in rows} == {"failed"}  # the device alone takes longer
    assert not edge.batches
    waited = [row for row in rows if "waited" in row.error]
    assert waited
    assert all(row.wait_ms >= 40 and not row.bytes for row in waited)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"policy": "splitlearn.runtime.DeadlinePolicy"}, "give --deadline_ms too"),
        ({"policy": "splitlearn.runtime.DeadlinePolicy", "deadline_ms": 9, "budget": 9}, "--policy or --budget"),
        ({"policy": "DeadlinePolice", "deadline_ms": 9}, "no 'DeadlinePolice'.*it takes"),
        ({"policy": "splitlearn.runtime.Device", "deadline_ms": 9}, r"derived from splitlearn\.runtime\.RatePolicy"),
        ({"policy": "FixedRate", "deadline_ms": 9, "rate": 7}, r"this package has rates 0…2, got 7"),
        ({"policy": "OraclePolicy", "deadline_ms": 9}, "answer_ms"),
        ({"deadline_ms": 0}, "--deadline_ms takes a number above 0, got 0"),
        ({"interval_ms": float("nan")}, "--interval_ms takes a number above 0, got nan"),
        ({"rate": 1, "budget": 9}, "take --rate or --budget"),
        ({"rate": 99}, r"--rate: this package has rates 0…2, got 99"),
        ({"rate": "Picture"}, r"--rate takes a rate of this package, 0, 1, 2, got 'Picture'"),
        ({"rate": -1}, r"--rate: this package has rates 0…2, got -1"),
        ({"budget": 0}, "--budget takes 1 byte or more, got 0"),
        ({"patience_s": -1.0}, r"--patience_s takes a number above 0, got -1"),
    ],
)
def test_options_that_make_no_sense(bank: Packaged, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        send([], bank.folder, "127.0.0.1:9", tmp_path, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_named(bank: Packaged, tmp_path: Path) -> None:
    pictures(1)[0].read().save(tmp_path / "0.png")
    with pytest.raises(UsageError, match=r"--out .*0\.png cannot be made: File exists"):
        send([], bank.folder, "127.0.0.1:9", tmp_path, out=tmp_path / "0.png")


def test_a_token_goes_to_another_machine_with_tls_alone(bank: Packaged, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    with pytest.raises(SecurityError, match=r"sending a token to 192\.0\.2\.1 takes TLS"):
        send([], bank.folder, "192.0.2.1:9", tmp_path, out=tmp_path / "out", token_file=token)
    with pytest.raises(DataError, match="holds no images"):  # beyond the check
        send([], bank.folder, "192.0.2.1:9", tmp_path, out=tmp_path / "out", token_file=token, insecure=True)


def test_a_single_rate_in_torch_has_no_budgets(exits: Packaged, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--budget takes a bank of rates; this model has a single one"):
        send([], exits.folder, "127.0.0.1:9", tmp_path, out=tmp_path / "o", budget=9, ckpt_path=Path("x.ckpt"))


@pytest.mark.slow
def test_the_command_runs_a_policy_without_torch(bank: Packaged, tmp_path: Path) -> None:
    for picture in pictures(3):
        picture.read().save(tmp_path / f"{picture.name}.png")
    code = (
        "import sys; sys.modules['torch'] = None; from splitlearn.commands.command_line import main; sys.exit(main())"
    )

    async def test() -> None:
        async with server_of(OnnxEdge(bank.folder)) as server:
            to = ("--to", f"127.0.0.1:{server.port}", "--package", str(bank.folder))
            files = ("--images", str(tmp_path), "--out", str(tmp_path / "out"))
            policy = ("--policy", "splitlearn.runtime.DeadlinePolicy", "--deadline_ms", "20000", "--interval_ms", "10")
            words = ("send", *to, *files, *policy)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *words)
            assert await process.wait() == 0

    run(test)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["outcome"], row["rate"]) for row in rows] == [("answered", "0")] * 3
