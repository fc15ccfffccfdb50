"""Answers of servers that are not trusted: nothing is written outside the output folder, and wrong forms fail alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitlearn.codecs import CodecError
from splitlearn.runtime.answer_files import AnswerError, plain
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import FrameError, LinkError, ProtocolError
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.pictures import Picture
from splitlearn.runtime.protocol import AnswerFrame, read_arrays, write_arrays
from splitlearn.runtime.sending import send_pictures
from splitlearn.runtime.sent import Journal, Sent
from tests.runtime.edges import FINGERPRINT, run, server_of
from tests.runtime.fake_device import FakeDevice
from tests.runtime.test_client import WELCOME, fake_server, next_request

FOUND = {
    "boxes": np.zeros((3, 4), np.float32),
    "classes": np.zeros(3, np.int64),
    "scores": np.zeros(3, np.float32),
}
LARGE = np.zeros(5000, np.float32)


def pictures(count: int) -> list[Picture]:
    return [Picture(f"{n}.png", lambda: Image.new("RGB", (8, 8))) for n in range(count)]


def forged(name: str) -> bytes:
    """An answer with one large array of any name, as a hostile server writes it."""
    letters = name.encode()
    plainly = write_arrays({"x" * len(letters): LARGE})
    return plainly.replace(b"x" * len(letters), letters, 1)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", "a.b", "a\0b", "a b", "a\n"])
def test_names_of_arrays_are_no_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        write_arrays({name: LARGE})
    with pytest.raises(FrameError, match="an array"):
        read_arrays(forged(name))
    folder = tmp_path / "deep" / "out"
    if "/" in name:
        with pytest.raises(AnswerError, match=r"outside .*arrays"):
            plain("../x", {name: LARGE}, folder)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x.png", "/tmp/x.png"])
def test_names_of_pictures_stay_below_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=r"outside .*arrays"):
        plain(name, {"output": LARGE}, tmp_path / "deep" / "out")
    assert plain("a/b.png", {"output": LARGE}, tmp_path) == {"output": "arrays/a/b.png.output.npy"}


def test_a_hostile_server_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WELCOME)
        request = await next_request(reader, FrameReader(1 << 20))
        writer.write(AnswerFrame(request.id, 0, 0, forged("/../../../../evil")).frame())
        await reader.read()

    async def test() -> None:
        journal = Journal(out, {})
        try:
            async with fake_server(answer) as port, EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
                with pytest.raises((ProtocolError, LinkError), match=r"breaks the protocol: an array"):
                    await send_pictures(FakeDevice(), client, pictures(40), journal)
        finally:
            journal.close()

    run(test)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"journal.jsonl", "journal.lock"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"classes": np.array(3)}, r"do not belong together: classes \(\)"),
        ({"classes": np.zeros((2, 2), np.int64)}, "do not belong together"),
        ({"classes": np.zeros(2, np.int64), "scores": np.zeros(3, np.float32)}, "do not belong together"),
        ({"classes": np.zeros(2, np.float32)}, "classes of the type float32"),
        ({"classes": np.zeros(2, np.int64), "scores": np.zeros(2, np.bool_)}, "scores of the type bool"),
        (FOUND | {"classes": np.zeros(2, np.int64)}, "do not belong together"),
        (FOUND | {"boxes": np.zeros((3, 5), np.float32)}, "do not belong together"),
        (FOUND | {"boxes": np.zeros(12, np.float32)}, "do not belong together"),
        ({"boxes": FOUND["boxes"]}, "boxes without classes or scores"),
        ({"classes": np.zeros((1 << 20) + 1, np.int64)}, r"1,048,577 values in classes"),
        ({"n" * 255: LARGE}, "a name of 2.. bytes"),
    ],
)
def test_answers_of_a_wrong_form(wrong: Answer, told: str, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=told):
        plain("a.png", wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 3, 2000])
def test_classes_scores_and_boxes_are_always_lists(count: int, tmp_path: Path) -> None:
    found: Answer = {
        "boxes": np.zeros((count, 4), np.float32),
        "classes": np.zeros(count, np.int64),
        "scores": np.zeros(count, np.float32),
    }
    kept = plain("a.png", found, tmp_path)
    assert {key: len(value) for key, value in kept.items()} == dict.fromkeys(found, count)
    assert json.loads(json.dumps(kept)) == kept
    assert plain("a.png", {"classes": np.zeros(5000, np.int64)}, tmp_path)["classes"] == [0] * 5000


class Mixed(Edge):
    """Every second answer has a wrong form."""

    fingerprint = FINGERPRINT

    def __init__(self) -> None:
        self.count = 0

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        found: list[Answer | CodecError] = []
        for _ in payloads:
            self.count += 1
            found.append({"classes": np.array(7) if self.count % 2 else np.array([7])})
        return found


def test_a_wrong_answer_fails_one_picture_alone(tmp_path: Path) -> None:
    rows: list[Sent] = []

    async def test() -> None:
        journal: Any = Journal(tmp_path, {})
        async with server_of(Mixed()) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            rows.extend(await send_pictures(FakeDevice(), client, pictures(6), journal))
        journal.close()

    run(test)
    assert sorted(row.outcome for row in rows) == ["answered"] * 3 + ["failed"] * 3
    assert all("do not belong together" in row.error for row in rows if row.outcome == "failed")
