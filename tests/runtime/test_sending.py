"""`splitlearn send` to `splitlearn serve`: each picture is answered once, or told as failed, whatever is killed."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitlearn.commands import main
from splitlearn.runtime import EdgeClient, EdgeServer, ExitPrediction, OnnxEdge, TorchDevice, TorchEdge
from splitlearn.runtime.decisions import AtRate
from splitlearn.runtime.errors import RefusedError, UnreachableError
from splitlearn.runtime.forms import TopClasses
from splitlearn.runtime.pictures import frames_of, pictures_of
from splitlearn.runtime.rate_control import Always
from splitlearn.runtime.sending import send_pictures
from splitlearn.runtime.sent import Journal, SendError, Sent, summary, write_results
from tests.networks import digits
from tests.runtime.conftest import Packaged, pixels

COUNT = 12
COMMAND = (sys.executable, "-m", "splitlearn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve digits in sub-folders, and a file that only looks like a picture."""
    for number, image in enumerate(pixels(COUNT)):
        path = tmp_path / "pictures" / f"{number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


@pytest.fixture
def server(bank: Packaged) -> Iterator[Callable[[int], tuple[subprocess.Popen[bytes], str]]]:
    """Start `splitlearn serve` at a port, 0 for any; return process and address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
        words = (*COMMAND, "serve", "--package", str(bank.folder), "--port", str(port))
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        address = re.search(rb"127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        return process, address[0].decode()

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()  # which a test may have done


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["splitlearn", *map(str, words)])
    return main()


def classes(package: Packaged, names: list[str], rate: int) -> dict[str, int]:
    payloads = package.model.compress(list(digits(COUNT)), rate=rate)  # type: ignore[call-arg]
    labels = package.model.decompress(payloads).argmax(1).tolist()
    return {name: labels[int(Path(name).stem)] for name in names}


def test_what_is_sent_is_answered_as_the_model_answers_it(
    bank: Packaged, folder: Path, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    process, address = server()
    out = tmp_path / "out"
    words = ("send", "--package", bank.folder, "--to", address, "--images", folder, "--out", out, "--rate", "1")
    (folder / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert run(monkeypatch, *words) == 1
    told = capfd.readouterr()
    assert f"{COUNT + 1} images: {COUNT} answered, 0 exited, 1 failed" in told.out
    assert "1 of 13 images failed: see the column error" in told.err
    rows = rows_of(out)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    answered = [row for row in rows if row["outcome"] == "answered"]
    assert {r["name"]: int(r["class"]) for r in answered} == classes(bank, [r["name"] for r in answered], 1)
    [failed] = [row for row in rows if row["outcome"] == "failed"]
    assert "cannot decode" in failed["error"]
    figures = json.loads((out / "results.json").read_text())
    sizes = [len(p) for p in bank.model.compress(list(digits(COUNT)), rate=1)]  # type: ignore[call-arg]
    assert figures["send/bytes_per_image"] == pytest.approx(np.mean(sizes), abs=1)
    assert figures["send/total_ms_p50"] > 0
    assert run(monkeypatch, *words) == 1  # what has failed is tried again
    assert "1 of 13 images failed" in capfd.readouterr().err
    (folder / "0" / "broken.png").write_bytes((folder / "0" / "00.png").read_bytes())
    assert run(monkeypatch, *words) == 0
    assert {row["outcome"] for row in rows_of(out)} == {"answered"}
    assert run(monkeypatch, *words) == 1
    assert "holds the results of a finished run: name another folder" in capfd.readouterr().err
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.slow
def test_a_stop_signal_is_one_sentence_and_the_run_goes_on(
    bank: Packaged, folder: Path, tmp_path: Path, server: Any
) -> None:
    _, address = server()
    out = tmp_path / "out"
    words = (*COMMAND, "send", "--package", bank.folder, "--to", address, "--images", folder, "--out", out)
    slow = tuple(map(str, (*words, "--interval-ms", "300")))
    with subprocess.Popen(slow, stderr=subprocess.PIPE) as sender:
        while not (out / "journal.jsonl").exists() or (out / "journal.jsonl").read_bytes().count(b"\n") < 3:
            assert sender.poll() is None
            time.sleep(0.05)
        sender.send_signal(signal.SIGINT)
        _, told = sender.communicate()
    assert sender.returncode == 130
    assert told.decode().splitlines()[-1].endswith("interrupted; the same command goes on where it was")
    assert b"Traceback" not in told
    assert subprocess.run(slow, stdout=subprocess.DEVNULL).returncode == 0
    assert {row["outcome"] for row in rows_of(out)} == {"answered"}


@pytest.mark.slow
def test_kills_of_device_and_server_lose_nothing(bank: Packaged, folder: Path, tmp_path: Path, server: Any) -> None:
    for number in range(COUNT, 150):
        source = folder / f"{number % 3}" / f"{number % COUNT:02}.png"
        for third in range(3):
            if (folder / f"{third}" / source.name).exists():
                source = folder / f"{third}" / source.name
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / f"{number:03}.png").write_bytes(source.read_bytes())
    process, address = server()
    port, out = int(address.rpartition(":")[2]), tmp_path / "out"
    words = (*COMMAND, "send", "--package", bank.folder, "--to", address, "--images", folder, "--out", out)
    draw = np.random.default_rng(0)
    for _ in range(20):
        sender = subprocess.Popen(tuple(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.5, 5))
        if draw.random() < 0.5:
            sender.kill()
        else:
            process.kill()
            process.communicate()
            process, _ = server(port)
            if sender.poll() is None and draw.random() < 0.5:
                sender.kill()
        if sender.wait(120) == 0:
            break
    else:
        assert subprocess.run(tuple(map(str, words)), stdout=subprocess.DEVNULL).returncode == 0
    names = [row["name"] for row in rows_of(out)]
    assert len(names) == len(set(names)) == 150
    assert {row["outcome"] for row in rows_of(out)} == {"answered"}
    assert sorted(path.name for path in out.iterdir()) == ["predictions.csv", "results.json"]


def sent(device: Any, edge: Any, folder: Path, out: Path, **options: Any) -> list[Sent]:
    async def act() -> list[Sent]:
        async with EdgeServer(edge) as server, EdgeClient("127.0.0.1", server.port, edge.fingerprint) as client:
            with Journal(out, {"package": edge.fingerprint}) as journal:
                rows = await send_pictures(device, client, pictures_of(folder), journal, **options)
                assert not any(row.answer for row in rows)
                return list(journal.rows([row.name for row in rows]))

    return asyncio.run(act())


def test_a_run_goes_on_where_its_journal_ends(bank: Packaged, folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting(TorchDevice):
        def compress(self, image: Any, rate: int | None = None, budget: int | None = None) -> bytes | ExitPrediction:
            asked.append(1)
            return super().compress(image, rate, budget)

    device, edge = Counting(bank.model), TorchEdge(bank.model, TopClasses(3))
    whole = sent(device, edge, folder, tmp_path / "out", policy=Always(AtRate(0)))
    assert len(asked) == COUNT
    journal = tmp_path / "out" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:20])  # killed while it wrote
    again = sent(device, edge, folder, tmp_path / "out", policy=Always(AtRate(0)))
    assert len(asked) == COUNT + COUNT - 5
    assert [(row.name, row.outcome, row.bytes, row.answer["classes"]) for row in again] == [
        (row.name, row.outcome, row.bytes, row.answer["classes"]) for row in whole
    ]
    with pytest.raises(SendError, match="is of another package, source or setting: name another folder"):
        Journal(tmp_path / "out", {"package": "another"})


def test_a_server_that_does_not_come_back_ends_the_run(bank: Packaged, folder: Path, tmp_path: Path) -> None:
    edge = TorchEdge(bank.model, TopClasses(3))
    os.rename(folder / "1" / "01.png", bytes(folder / "1") + b"/\xff.png")

    async def act() -> None:
        async with EdgeServer(edge) as server:
            client = EdgeClient("127.0.0.1", server.port, edge.fingerprint, patience_s=0.3)
            await client.connect()
            await server.stop()
            with Journal(tmp_path / "out", {}) as journal:
                await send_pictures(TorchDevice(bank.model), client, pictures_of(folder), journal)

    with pytest.raises(UnreachableError):
        asyncio.run(act())
    assert (tmp_path / "out" / "journal.jsonl").exists()
    rows = sent(TorchDevice(bank.model), edge, folder, tmp_path / "other")
    assert {row.outcome for row in rows} == {"answered"}
    journal = Journal(tmp_path / "other", {"package": edge.fingerprint})
    write_results(journal, [row.name for row in rows], {}, [])
    assert b"/\xff.png,answered" in (tmp_path / "other" / "predictions.csv").read_bytes()


def test_pictures_that_leave_at_an_exit_cost_nothing(exits: Packaged, folder: Path, tmp_path: Path) -> None:
    edge = OnnxEdge(exits.folder)
    rows = sent(TorchDevice(exits.model), edge, folder, tmp_path / "out")
    left = [row for row in rows if row.outcome == "exited"]
    assert 0 < len(left) < COUNT
    assert {row.bytes for row in left} == {0}
    labels = exits.model(digits(COUNT)).argmax(1).tolist()
    assert [row.answer["classes"][0] for row in rows] == [labels[int(Path(row.name).stem)] for row in rows]
    figures = summary(rows, 1.0)
    assert figures["send/exited"] == len(left)
    write_results(written(tmp_path / "again", rows), [row.name for row in rows], figures, ["zero"])
    assert sum(row["class_name"] == "zero" for row in rows_of(tmp_path / "again")) == labels.count(0)


def written(folder: Path, rows: list[Sent]) -> Journal:
    journal = Journal(folder, {})
    for row in rows:
        journal.add(row)
    return journal


def test_boxes_get_a_file_of_their_own(tmp_path: Path) -> None:
    boxes = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "classes": [1], "scores": [0.5]}
    rows = [Sent("a.jpg", "answered", 9, answer=boxes), Sent("b.jpg", "answered", 9)]
    write_results(written(tmp_path / "out", rows), ["a.jpg", "b.jpg"], {}, ["cat", "dog"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "boxes.csv",
        "predictions.csv",
        "results.json",
    ]
    [box] = csv.DictReader((tmp_path / "out" / "boxes.csv").read_text().splitlines())
    assert (box["name"], box["class_name"], box["bottom"]) == ("a.jpg", "dog", "4.00")
    assert [row["objects"] for row in rows_of(tmp_path / "out")] == ["1", ""]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "somewhere", "--images", "."), "--to takes HOST:PORT"),
        (("--to", "127.0.0.1:1"), "either --images FOLDER or --video FILE"),
        (("--to", "127.0.0.1:1", "--images", "nowhere"), "there is no folder nowhere"),
        (("--to", "127.0.0.1:1", "--images", ".", "--patience-s", "0.2"), "127.0.0.1"),
        (("--to", "127.0.0.1:1", "--images", ".", "--tls-ca", "nowhere.pem"), "no file nowhere.pem"),
        (("--to", "127.0.0.1:1", "--images", ".", "--token-file", "nowhere"), "no file nowhere"),
    ],
)
def test_wrong_words_get_one_sentence(
    words: tuple[str, ...], told: str, bank: Packaged, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(folder)
    assert run(monkeypatch, "send", "--package", bank.folder, "--out", folder / "out", *words) in (1, 2)
    error = capfd.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_server_of_another_package_refuses(bank: Packaged, exits: Packaged, folder: Path, tmp_path: Path) -> None:
    async def act() -> None:
        async with EdgeServer(OnnxEdge(exits.folder)) as server:
            await EdgeClient("127.0.0.1", server.port, OnnxEdge(bank.folder).fingerprint).connect()

    with pytest.raises(RefusedError, match=r"the server has package .*, the client .*: give both the same package"):
        asyncio.run(act())


def test_frames_of_a_video_are_pictures(shared_data: Path, tmp_path: Path) -> None:
    from tests.data.test_video import write_sound  # needs PyAV

    frames = frames_of(shared_data / "video_static_camera.mp4")
    first, second = next(frames), next(frames)
    assert (first.name, second.name) == ("000000", "000001")
    assert first.read().size == (768, 432)
    assert not np.array_equal(np.asarray(first.read()), np.asarray(second.read()))
    frames.close()  # type: ignore[attr-defined]
    (tmp_path / "no.mp4").write_bytes(os.urandom(999))
    sound = write_sound(tmp_path / "sound.wav")
    for path, told in (
        (tmp_path / "no.mp4", "is no video"),
        (tmp_path / "nowhere.mp4", "there is no video"),
        (sound, r"sound.wav is no video, .*: name another \(it has no video stream\)"),
    ):
        with pytest.raises(RuntimeError, match=told):
            next(frames_of(path))


def test_a_video_that_ends_too_early_ends_with_a_picture_that_says_so(tmp_path: Path) -> None:
    from tests.data.test_video import write_video  # needs PyAV

    content = write_video(tmp_path / "whole.mkv", 60).read_bytes()
    assert all(frame.read().size for frame in frames_of(tmp_path / "whole.mkv"))
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    *good, last = frames_of(tmp_path / "cut.mkv")
    assert 0 < len(good) < 59
    assert all(frame.read().size for frame in good)
    with pytest.raises(RuntimeError, match=rf"cut.mkv is damaged from frame {len(good)} on"):
        last.read()
