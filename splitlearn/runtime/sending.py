"""Sending many pictures to an edge server: each is answered exactly once, or reported as failed.

Whatever ends the run, the journal keeps what was answered until then, and the same command goes on from there.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.files import whole_file, write_json
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.client import EdgeClient, Reply
from splitlearn.runtime.decisions import Decision, Device
from splitlearn.runtime.device import ExitPrediction
from splitlearn.runtime.errors import LinkError
from splitlearn.runtime.pictures import Picture
from splitlearn.runtime.rate_control import Outcome, RatePolicy

ANSWERED, EXITED, FAILED = "answered", "exited", "failed"
JOURNAL, PREDICTIONS, RESULTS, ARRAYS = "journal.jsonl", "predictions.csv", "results.json", "arrays"
WINDOW = 32  # pictures on their way at once
LARGEST_IN_TEXT = 4096  # values of an array in the journal; larger ones get files of their own
PARTS = ("device_ms", "link_ms", "wait_ms", "edge_ms", "total_ms")


class SendError(ValueError):
    """Pictures cannot be sent; the message names the remedy."""


class Compresses(Device, Protocol):
    """A device: `Device` or `TorchDevice`."""

    @property
    def has_exits(self) -> bool:
        """Return whether the device can answer by itself."""

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return a picture of the network's size."""


@dataclass(frozen=True)
class Sent:
    """What became of one picture.

    Attributes:
        name: of the picture.
        outcome: "answered" by the edge server, "exited" on the device, or "failed".
        bytes: size of the payload; 0 if nothing was sent.
        device_ms: time of the device's half.
        link_ms: time on the way, there and back.
        wait_ms: time in queues, and without a connection.
        edge_ms: time of the edge server's half.
        answer: arrays of the answer, as lists, or names of files below the output folder.
        error: why it failed.
        rate: at which it was sent; None if the best one, or a budget, or an exit decided.
        note: why an exit had to answer.
    """

    name: str
    outcome: str
    bytes: int = 0
    device_ms: float = 0.0
    link_ms: float = 0.0
    wait_ms: float = 0.0
    edge_ms: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    rate: int | None = None
    note: str = ""

    @property
    def total_ms(self) -> float:
        """The picture's time from the start of the device's half to its answer."""
        return self.device_ms + self.link_ms + self.wait_ms + self.edge_ms


class Journal:
    """What became of each picture so far, one line of JSON each, in a file that only grows.

    Args:
        folder: output folder; created if missing.
        about: facts that a run shares with the one that it continues, such as the fingerprint.

    Attributes:
        done: what became of the pictures of earlier runs, by name; failed ones are tried again.

    Raises:
        SendError: if the folder holds the results of a finished run, or the journal of another one.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        if (folder / RESULTS).exists():
            raise SendError(f"{folder} holds the results of a finished run: name another folder, --out DIR")
        folder.mkdir(parents=True, exist_ok=True)
        lines = list(_whole_lines(self.path))
        if lines and lines[0] != dict(about):
            raise SendError(f"{self.path} is of another package, source or rate: name another folder, --out DIR")
        names = {each.name for each in fields(Sent)}
        rows = [Sent(**line) for line in lines[1:] if names >= line.keys()]
        self.done = {row.name: row for row in rows if row.outcome != FAILED}
        with whole_file(self.path) as temporary:  # without half a line of a killed run, and without failed pictures
            kept = [dict(about), *map(asdict, self.done.values())]
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a")

    def add(self, row: Sent) -> None:
        """Append one picture; it is on the disk's side of this process when this returns."""
        self._file.write(json.dumps(asdict(row)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:  # the last one is empty, or half written
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


@dataclass(frozen=True)
class Pace:
    """When pictures come, and how long their answers may take.

    Attributes:
        deadline_ms: from a picture's coming to its answer; None for any time.
        interval_ms: between two pictures, as a camera gives them; None if each comes when the device is ready for it.
        most: pictures on their way at once.
    """

    deadline_ms: float | None = None
    interval_ms: float | None = None
    most: int = WINDOW


async def send_pictures(
    device: Compresses,
    client: EdgeClient,
    pictures: Iterable[Picture],
    journal: Journal,
    policy: RatePolicy,
    pace: Pace | None = None,
    tell: Callable[[Sent], None] = lambda row: None,
) -> list[Sent]:
    """Send pictures and return what became of each, in their order.

    Args:
        device: the device's half.
        client: connected to the edge server.
        pictures: what to send; names are unique.
        journal: keeps what is done, and knows what was done before.
        policy: decides what is done with each.
        pace: when they come, and how long answers may take; by default one after the other, and any time.
        tell: called with each picture's outcome.

    Raises:
        LinkError: if the server will never accept this client; what is in the journal stays.
    """
    return await _Sending(device, client, journal, policy, pace or Pace(), tell).all(pictures)


class _Sending:
    """One run of `send_pictures`."""

    def __init__(
        self,
        device: Compresses,
        client: EdgeClient,
        journal: Journal,
        policy: RatePolicy,
        pace: Pace,
        tell: Callable[[Sent], None],
    ) -> None:
        self._device, self._client, self._journal = device, client, journal
        self._policy, self._pace, self._tell = policy, pace, tell
        self._order: list[str] = []
        self._found: dict[str, Sent] = {}

    async def all(self, pictures: Iterable[Picture]) -> list[Sent]:
        """Send them all."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for picture, came in arrivals(self._to_do(pictures), self._pace.interval_ms):
                if (task := await self._take(picture, came)) is not None:
                    tasks.add(task)
                while len(tasks) >= self._pace.most or any(task.done() for task in tasks):
                    tasks = await _some_done(tasks)
            while tasks:
                tasks = await _some_done(tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [self._found[name] for name in self._order]

    def _to_do(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Yield the pictures that are not done yet."""
        for picture in pictures:
            self._order.append(picture.name)
            if (row := self._journal.done.get(picture.name)) is None:
                yield picture
            else:
                self._found[row.name] = row
                self._tell(row)

    async def _take(self, picture: Picture, came: float) -> asyncio.Task[None] | None:
        """Carry out what the policy decides; return what waits for the answer if it is sent."""
        name, waited_ms = picture.name, 1e3 * (time.monotonic() - came)
        left_ms = self._left_ms(came)
        if left_ms <= 0:
            error = f"not sent: it has waited {waited_ms:.0f} ms for the device"
            self._keep(Sent(name, FAILED, wait_ms=waited_ms, error=error))
            return None
        decision = self._policy.decide(self._client.link, left_ms)
        made, device_ms = await asyncio.to_thread(_made, self._device, picture, decision)
        row = Sent(name, FAILED, device_ms=device_ms, wait_ms=waited_ms, rate=decision.rate, note=decision.note)
        if isinstance(made, bytes) and self._left_ms(came) <= 0:
            self._keep(replace(row, error="not sent: the device has taken longer than the deadline"))
        elif isinstance(made, bytes):
            return asyncio.create_task(self._ask(made, replace(row, bytes=len(made)), came))
        elif isinstance(made, Mapping):
            self._keep(replace(row, outcome=EXITED, answer=_plain(name, made, self._journal.folder)))
        else:
            self._keep(replace(row, error=made))
        return None

    async def _ask(self, payload: bytes, row: Sent, came: float) -> None:
        link, started, left_ms = self._client.link, time.monotonic(), self._left_ms(came)
        reply: Reply | None = None
        try:
            deadline_ms = None if left_ms == math.inf else left_ms
            reply = await self._client.ask(payload, deadline_ms=deadline_ms, rate=row.rate)
        except LinkError as error:
            if error.is_final:
                raise
            row = replace(row, error=str(error))
        waited_ms = 1e3 * (time.monotonic() - started)
        self._policy.observe(Outcome(row.rate, len(payload), row.device_ms, link, waited_ms, reply))
        if reply is not None:
            answer, wait_ms = _plain(row.name, reply.arrays, self._journal.folder), row.wait_ms + reply.wait_ms
            row = replace(row, link_ms=reply.link_ms, wait_ms=wait_ms, edge_ms=reply.edge_ms)
            row = replace(row, outcome=ANSWERED, answer=answer)
        self._keep(row)

    def _left_ms(self, came: float) -> float:
        deadline_ms = self._pace.deadline_ms
        return math.inf if deadline_ms is None else deadline_ms - 1e3 * (time.monotonic() - came)

    def _keep(self, row: Sent) -> None:
        self._journal.add(row)
        self._found[row.name] = row
        self._tell(row)


async def arrivals(pictures: Iterable[Picture], interval_ms: float | None) -> AsyncIterator[tuple[Picture, float]]:
    """Yield pictures and the times when they came, in seconds of `time.monotonic`.

    Args:
        pictures: in their order.
        interval_ms: from one to the next, however long the caller takes; None if each comes when it is asked for.
    """
    started = time.monotonic()
    for number, picture in enumerate(pictures):
        came = time.monotonic() if interval_ms is None else started + number * interval_ms / 1e3
        await asyncio.sleep(max(0.0, came - time.monotonic()))
        yield picture, came


async def _some_done(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait until a task is done, and return the others; raises what a task has raised."""
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return others


def _made(device: Compresses, picture: Picture, decision: Decision) -> tuple[bytes | Answer | str, float]:
    """Return the payload, an exit's answer or the reason of a failure, and the time of the device's half in ms."""
    try:
        image = device.prepare(picture.read())
        started = time.perf_counter()
        found = decision.carry_out(device, image)
        made = found.answer() if isinstance(found, ExitPrediction) else found
    except (ValueError, RuntimeError) as error:  # of a damaged picture, another size, a budget, a latent
        return str(error), 0.0
    return made, 1e3 * (time.perf_counter() - started)


def _plain(name: str, answer: Answer, folder: Path) -> dict[str, Any]:
    """Return an answer as lists; large arrays are written to files, masks as PNG."""
    found: dict[str, Any] = {}
    for key, array in answer.items():
        if array.size <= LARGEST_IN_TEXT:
            found[key] = array.tolist()
            continue
        content = io.BytesIO()
        is_picture = array.dtype == np.uint8 and array.ndim == 2
        if is_picture:
            Image.fromarray(array).save(content, "PNG")
        else:
            np.save(content, array, allow_pickle=False)
        path = folder / ARRAYS / f"{name}.{key}{'.png' if is_picture else '.npy'}"
        with whole_file(path) as temporary:
            temporary.write_bytes(content.getvalue())
        found[key] = path.relative_to(folder).as_posix()
    return found


def summary(rows: Sequence[Sent], seconds: float) -> dict[str, float]:
    """Return the figures of a run: counts, bytes, images per second, and percentiles of each part of the latency.

    Args:
        rows: what became of each picture.
        seconds: duration of the run.
    """
    counts = {f"send/{outcome}": sum(row.outcome == outcome for row in rows) for outcome in (ANSWERED, EXITED, FAILED)}
    done = [row for row in rows if row.outcome != FAILED]
    found: dict[str, float] = {"send/images": len(rows), **counts}
    if done:
        found["send/bytes_per_image"] = sum(row.bytes for row in done) / len(done)
        found["send/images_per_second"] = len(done) / max(seconds, 1e-9)
    answered = [row for row in rows if row.outcome == ANSWERED]
    for part in PARTS if answered else ():
        values = np.percentile([getattr(row, part) for row in answered], [50, 95, 99])
        found |= {f"send/{part}_p{p}": float(v) for p, v in zip((50, 95, 99), values, strict=True)}
    return found


def write_results(folder: Path, rows: Sequence[Sent], figures: Mapping[str, Any], class_names: Sequence[str]) -> None:
    """Write predictions.csv, one row per picture, and results.json; then remove the journal."""
    with whole_file(folder / PREDICTIONS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        cells = ["class", "class_name", "score", "objects", "bytes", *PARTS, "error", "rate", "note"]
        writer.writerow(["name", "outcome", *cells])
        for row in rows:
            beside = [row.bytes, *_times(row), row.error, "" if row.rate is None else row.rate, row.note]
            writer.writerow([row.name, row.outcome, *_cells(row.answer, class_names), *beside])
    write_json(folder / RESULTS, dict(figures))
    if any("boxes" in row.answer for row in rows):
        _write_boxes(folder / "boxes.csv", rows, class_names)
    os.unlink(folder / JOURNAL)


def _times(row: Sent) -> list[str]:
    return [f"{getattr(row, part):.3f}" for part in PARTS]


def _cells(answer: Mapping[str, Any], class_names: Sequence[str]) -> list[Any]:
    """Return class, its name and score of an answer with classes; the number of objects of one with boxes."""
    if "boxes" in answer:
        return ["", "", "", len(answer["boxes"])]
    classes, scores = answer.get("classes", []), answer.get("scores", [])
    if not classes:
        return ["", "", "", ""]
    return [classes[0], _class_name(classes[0], class_names), f"{scores[0]:.6f}" if scores else "", ""]


def _class_name(number: int, class_names: Sequence[str]) -> str:
    return class_names[number] if 0 <= number < len(class_names) else ""


def _write_boxes(path: Path, rows: Sequence[Sent], class_names: Sequence[str]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "class", "class_name", "score", "left", "top", "right", "bottom"])
        for row in rows:
            answer = row.answer
            for n in range(len(answer.get("boxes", []))):
                number, corners = answer["classes"][n], [f"{side:.2f}" for side in answer["boxes"][n]]
                name = _class_name(number, class_names)
                writer.writerow([row.name, number, name, f"{answer['scores'][n]:.6f}", *corners])
