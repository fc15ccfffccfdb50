"""Journal, figures and tables of pictures that were sent."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from splitlearn.runtime import sent
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.pictures import Picture, frames_of
from splitlearn.runtime.sending import Pace, send_pictures
from splitlearn.runtime.sent import Journal, SendError, Sent, summary, write_results
from tests.runtime.edges import FINGERPRINT, Reverse, run, server_of
from tests.runtime.fake_device import FakeDevice

BOXES = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "classes": [1], "scores": [0.5]}


def test_results_are_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, {})
    journal.add(Sent("a", "answered", 9, answer=BOXES))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sent, "_write_boxes", killed)
    with pytest.raises(KeyboardInterrupt), journal:
        write_results(journal, ["a"], {}, [])
    monkeypatch.undo()
    with Journal(tmp_path, {}) as again:
        assert set(again.done) == {"a"}
        write_results(again, ["a"], {}, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.csv", "predictions.csv", "results.json"]


def test_the_files_of_large_answers_are_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    journal.add(Sent("a.png", "answered", answer={"mask": "arrays/a.png.mask.png"}))
    journal.add(Sent("b.png", "answered", answer={"mask": [[0, 1], [1, 1]]}))
    write_results(journal, ["a.png", "b.png"], {}, ())
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert [row["arrays"] for row in rows] == ["arrays/a.png.mask.png", ""]


def test_one_process_at_a_time_sends_into_a_folder(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.add(Sent("a", "answered", 9))
        with pytest.raises(SendError, match=r"another process sends into .*: name another folder, --out DIR"):
            Journal(tmp_path, {})
        journal.add(Sent("b", "answered", 9))
    with pytest.raises(SendError, match="of another package, source or setting"):
        Journal(tmp_path, {"deadline_ms": 5})
    with Journal(tmp_path, {}) as journal:  # a refused one holds no lock
        assert set(journal.done) == {"a", "b"}


def test_answers_stay_in_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        for n in range(5):
            journal.add(Sent(f"{n}", "failed" if n == 2 else "answered", answer={"classes": [n]}, error="ü"))
        assert [row.answer["classes"] for row in journal.rows(["3", "0", "2"])] == [[3], [0], [2]]
    with Journal(tmp_path, {}) as journal:
        assert set(journal.done) == set("0134")
        assert not any(row.answer for row in journal.done.values())
        journal.add(Sent("2", "answered", answer={"classes": [7]}))
        assert [row.answer["classes"] for row in journal.rows(["4", "2", "1"])] == [[4], [7], [1]]


def test_figures_count_what_they_say() -> None:
    answered = [Sent(f"{n}", "answered", 10, 1.0, 2.0, 3.0, 4.0, 5.0) for n in range(3)]
    rows = [*answered, Sent("e", "exited", 0, 1.0, 6.0), Sent("f", "failed", 0, 100.0, 100.0)]
    found = summary(rows, 2.0, {"0", "1", "other"})
    assert found["send/images_per_second"] == 1.0  # one answered and one exited of this run, in 2 s
    assert found["send/bytes_per_image"] == 7.5
    assert (found["send/total_ms_p50"], found["send/total_ms_p99"]) == (15.0, 15.0)
    assert found["send/device_ms_p99"] == pytest.approx(6.0, abs=0.2)
    assert (found["send/link_ms_p50"], found["send/edge_ms_p50"]) == (3.0, 5.0)
    alone = summary(rows[3:], 1.0)
    assert alone["send/total_ms_p50"] == 7.0
    assert not [name for name in alone if "link" in name or "edge" in name]


def sent_in(folder: Path, device: FakeDevice, pictures: Iterator[Picture], pace: Pace) -> list[Sent]:
    rows: list[Sent] = []

    async def test() -> None:
        async with server_of(Reverse()) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            with Journal(folder, {}) as journal:
                rows.extend(await send_pictures(device, client, pictures, journal, None, pace))
                write_results(journal, [row.name for row in rows], {}, [])

    run(test)
    return rows


def test_a_video_with_a_damaged_end_gives_results(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "video_static_camera.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(damaged(whole))
    rows = sent_in(tmp_path / "out", FakeDevice(), frames_of(path), Pace())
    *good, last = rows
    assert good
    assert {row.outcome for row in good} == {"answered"}
    assert (last.outcome, last.name) == ("failed", f"{len(good):06d}")
    assert f"cut.mp4 is damaged from frame {len(good)} on" in last.error
    table = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert len(table) == len(rows)
    assert all(float(row["prepare_ms"]) > 0 for row in table[:-1])


def test_pictures_are_fetched_beside_the_event_loop_and_their_preparation_counts(tmp_path: Path) -> None:
    threads = set()

    class Preparing(FakeDevice):
        def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
            threading.Event().wait(0.06)
            return np.asarray(picture)

    def pictures() -> Iterator[Picture]:
        for n in range(3):
            threads.add(threading.current_thread())
            yield Picture(f"{n}", lambda: Image.new("RGB", (8, 8)))

    rows = sent_in(tmp_path / "out", Preparing(), pictures(), Pace(40))
    assert threading.main_thread() not in threads
    assert {row.error for row in rows} == {"not sent: the device has taken longer than the deadline"}
    assert all(row.total_ms >= row.prepare_ms >= 60 for row in rows)


def test_a_picture_without_memory_fails_alone(tmp_path: Path) -> None:
    def refuse() -> Image.Image:
        raise MemoryError

    small = Image.new("RGB", (8, 8))
    pictures = [Picture("large", refuse), Picture("small", small.copy)]
    rows = sent_in(tmp_path / "out", FakeDevice(), iter(pictures), Pace())
    assert [row.outcome for row in rows] == ["failed", "answered"]
    assert "too little memory for this picture" in rows[0].error


def damaged(video: bytes) -> bytes:
    """Return a video whose second half is zeros."""
    return video[: len(video) // 2] + bytes(len(video) - len(video) // 2)
