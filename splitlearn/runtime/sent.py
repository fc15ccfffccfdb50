"""What became of pictures that were sent: rows, the journal that survives kills, figures and tables."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from splitlearn.files import whole_file, write_json

ANSWERED, EXITED, FAILED = "answered", "exited", "failed"
JOURNAL, PREDICTIONS, BOXES, RESULTS = "journal.jsonl", "predictions.csv", "boxes.csv", "results.json"
PARTS = ("device_ms", "link_ms", "wait_ms", "edge_ms", "total_ms")


class SendError(ValueError):
    """Pictures cannot be sent; the message names the remedy."""


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
    """Write predictions.csv, a row per picture, boxes.csv if there are any, and results.json; then remove the journal.

    results.json says that all is there, so it is the last.
    """
    with whole_file(folder / PREDICTIONS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        cells = ["class", "class_name", "score", "objects", "bytes", *PARTS, "error", "rate", "note"]
        writer.writerow(["name", "outcome", *cells])
        for row in rows:
            beside = [row.bytes, *_times(row), row.error, "" if row.rate is None else row.rate, row.note]
            writer.writerow([row.name, row.outcome, *_cells(row.answer, class_names), *beside])
    if any("boxes" in row.answer for row in rows):
        _write_boxes(folder / BOXES, rows, class_names)
    write_json(folder / RESULTS, dict(figures))
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
