"""Results of sending pictures: one row for each, a journal that survives kills, summary figures and tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from filelock import FileLock, Timeout

from splitlearn.files import whole_file, write_json
from splitlearn.runtime.protocol import Kind

ANSWERED, EXITED, FAILED = "answered", "exited", "failed"
JOURNAL, LOCK, PREDICTIONS, BOXES = "journal.jsonl", "journal.lock", "predictions.csv", "boxes.csv"
RESULTS = "results.json"
BEFORE, BEYOND = ("prepare_ms", "device_ms"), ("link_ms", "wait_ms", "edge_ms")  # of all images; of those answered
PARTS = (*BEFORE, *BEYOND, "total_ms")
PERCENTILES = (50, 95, 99)
KINDS = ("key", "delta", "repeat")  # of frames of streams
PICTURE = "picture"  # in place of a rate


class SendError(ValueError):
    """Pictures cannot be sent; the message names the remedy."""


@dataclass(frozen=True)
class Sent:
    """Result of sending one picture.

    Attributes:
        name: name of the picture.
        outcome: "answered" by the edge server, "exited" on the device, or "failed".
        bytes: size of the payload; 0 if nothing was sent.
        prepare_ms: time to read the picture and bring it to the network's size.
        device_ms: time of the device's half.
        link_ms: time on the way, there and back.
        wait_ms: time in queues, and without a connection.
        edge_ms: time of the edge server's half.
        answer: arrays of the answer, as lists, or names of files below the output folder.
        error: why it failed.
        rate: index of the compression rate at which it was sent; None if the device chose the best one or fitted a
            budget, an exit answered, or the image was sent as a file.
        note: why an exit had to answer.
        kind: of what was sent, a payload, an image file or a frame of a stream.
        frame: "key", "delta" or "repeat" for an answered frame of a stream.
        seconds: when the video shows it, from its beginning; None for image files.
    """

    name: str
    outcome: str
    bytes: int = 0
    prepare_ms: float = 0.0
    device_ms: float = 0.0
    link_ms: float = 0.0
    wait_ms: float = 0.0
    edge_ms: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    rate: int | None = None
    note: str = ""
    kind: Kind = Kind.PAYLOAD
    frame: str = ""
    seconds: float | None = None

    @property
    def total_ms(self) -> float:
        """Time from the start of reading the picture to its answer."""
        return self.prepare_ms + self.device_ms + self.link_ms + self.wait_ms + self.edge_ms


class Journal:
    """Results of all pictures so far, one line of JSON each, in a file that only grows.

    Answers stay in the file; the rows in memory come without them. One process at a time holds the folder.

    Args:
        folder: output folder; created if missing.
        about: facts that must be the same in a run and in the one that it continues, such as the fingerprint.

    Attributes:
        folder: output folder.
        done: results of earlier runs, by name of the picture; failed pictures are tried again.

    Raises:
        SendError: if another process sends into the folder, or it holds the results of a finished run, or the journal
            of another one.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        _check_unfinished(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SendError(f"another process sends into {folder}: name another folder, --out DIR") from error
        try:
            _check_unfinished(folder)  # again: it may have been finished until the lock was free
            self.done: dict[str, Sent] = {}
            self._at: dict[str, int] = {}  # where a picture's line begins
            self._begin(dict(about))
        except BaseException:
            self._lock.release()
            raise
        self._file = self.path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, about: dict[str, Any]) -> None:
        """Write the file anew, without half a line of a killed run, and without failed pictures."""
        names = {each.name for each in fields(Sent)}
        lines = _whole_lines(self.path)
        if next(lines, {} if self.path.exists() else about) != about:
            raise SendError(f"{self.path} is of another package, source or setting: name another folder, --out DIR")
        with whole_file(self.path) as temporary, temporary.open("wb") as file:
            file.write(_line(about))
            for line in lines:
                if (
                    names >= line.keys() >= {"name", "outcome"}
                    and (row := Sent(**line)).outcome != FAILED
                    and row.name not in self.done
                ):
                    self._at[row.name] = file.tell()
                    self.done[row.name] = replace(row, answer={})
                    file.write(_line(line))

    def add(self, row: Sent) -> None:
        """Append the result of one picture; once this returns, it survives a kill of this process."""
        self._at[row.name] = self._file.tell()
        self._file.write(_line(asdict(row)))
        self._file.flush()

    def rows(self, names: Sequence[str]) -> Iterator[Sent]:
        """Yield the results of pictures, with their answers, in the order of `names`."""
        with self.path.open("rb") as file:
            for name in names:
                file.seek(self._at[name])
                yield Sent(**json.loads(file.readline()))

    def close(self) -> None:
        """Close the file, so that another process may use the folder."""
        self._file.close()
        self._lock.release()

    def finish(self) -> None:
        """Close and remove the file, whose content is in the results by then."""
        self.close()
        for name in (JOURNAL, LOCK):  # whoever takes the lock now finds the results
            (self.folder / name).unlink(missing_ok=True)


def _check_unfinished(folder: Path) -> None:
    if (folder / RESULTS).exists() and not (folder / JOURNAL).exists():
        raise SendError(f"{folder} holds the results of a finished run: name another folder, --out DIR")


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                found = json.loads(line) if line.endswith(b"\n") else None  # the last one may be half written
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def summary(rows: Sequence[Sent], seconds: float, earlier: Collection[str] = ()) -> dict[str, float]:
    """Return the figures of a run: counts, bytes, images per second, and percentiles of each part of the latency.

    For a video also bytes per second, as it is shown, and the number and mean size of key frames and others.

    Times of preparation, of the device's half and in total are taken over images that were answered or exited; times of
    link, queues and edge only over answered images.

    Args:
        rows: result of each picture.
        seconds: duration of the run.
        earlier: names of the pictures that runs before this one have sent; they count in all but images per second.
    """
    counts = {f"send/{outcome}": sum(row.outcome == outcome for row in rows) for outcome in (ANSWERED, EXITED, FAILED)}
    done = [row for row in rows if row.outcome != FAILED]
    found: dict[str, float] = {"send/images": len(rows), **counts}
    if done:
        found["send/bytes_per_image"] = sum(row.bytes for row in done) / len(done)
        found["send/images_per_second"] = sum(row.name not in earlier for row in done) / max(seconds, 1e-9)
    answered = [row for row in done if row.outcome == ANSWERED]
    found |= _of_video(rows, answered)
    for part in PARTS:
        if those := answered if part in BEYOND else done:
            values = np.percentile([getattr(row, part) for row in those], PERCENTILES)
            found |= {f"send/{part}_p{p}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
    return found


def _of_video(rows: Sequence[Sent], answered: Sequence[Sent]) -> dict[str, float]:
    """Return bytes per second of a video as it is shown, and number and mean bytes of each kind of its frames."""
    found: dict[str, float] = {}
    times = [row.seconds for row in rows if row.seconds is not None]
    if len(times) > 1 and (shown := max(times) - min(times)) > 0:
        length = shown * len(times) / (len(times) - 1)  # with the time of the last frame
        found["send/bytes_per_second"] = sum(row.bytes for row in rows) / length
    for kind in KINDS if any(row.frame for row in answered) else ():
        sizes = [row.bytes for row in answered if row.frame == kind]
        found[f"send/{kind}_frames"] = len(sizes)
        if sizes:
            found[f"send/bytes_per_{kind}_frame"] = sum(sizes) / len(sizes)
    return found


def write_results(
    journal: Journal, names: Sequence[str], figures: Mapping[str, Any], class_names: Sequence[str]
) -> None:
    """Write predictions.csv, boxes.csv if there are any boxes, and results.json.

    results.json is written last, as a sign that all files are complete. Then the journal is removed, unless pictures
    have failed: the same command reads it to try these again.

    Args:
        journal: results of the pictures.
        names: names of all pictures, in the order of the rows.
        figures: entries of results.json.
        class_names: names of the classes by their numbers; may be empty.
    """
    with whole_file(journal.folder / PREDICTIONS) as temporary, _csv(temporary) as file:
        writer, has_boxes, has_failed = csv.writer(file), False, False
        cells = ["class", "class_name", "score", "objects", "bytes"]
        writer.writerow(["name", "outcome", *cells, *PARTS, "error", "rate", "note", "frame", "seconds", "arrays"])
        for row in journal.rows(names):
            has_boxes |= "boxes" in row.answer
            has_failed |= row.outcome == FAILED
            beside = [row.bytes, *_times(row), row.error, _rate(row), row.note, row.frame, _seconds(row), _files(row)]
            writer.writerow([row.name, row.outcome, *_cells(row.answer, class_names), *beside])
    if has_boxes:
        _write_boxes(journal.folder / BOXES, journal.rows(names), class_names)
    write_json(journal.folder / RESULTS, dict(figures))
    if not has_failed:
        journal.finish()


def _csv(path: Path) -> TextIO:
    """Open a CSV file to write; names of files that are no UTF-8 keep their bytes."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


def _times(row: Sent) -> list[str]:
    return [f"{getattr(row, part):.3f}" for part in PARTS]


def _seconds(row: Sent) -> str:
    return "" if row.seconds is None else f"{row.seconds:.6f}"


def _files(row: Sent) -> str:
    """Return the files of an answer's large arrays, such as a mask, below the output folder."""
    return " ".join(value for value in row.answer.values() if isinstance(value, str))


def _rate(row: Sent) -> int | str:
    """Return what was chosen: the number of a rate, "picture", or nothing."""
    if row.kind == Kind.PICTURE:
        return PICTURE
    return "" if row.rate is None else row.rate


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


def _write_boxes(path: Path, rows: Iterator[Sent], class_names: Sequence[str]) -> None:
    with whole_file(path) as temporary, _csv(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(["name", "class", "class_name", "score", "left", "top", "right", "bottom"])
        for row in rows:
            answer = row.answer
            for n in range(len(answer.get("boxes", []))):
                number, corners = answer["classes"][n], [f"{side:.2f}" for side in answer["boxes"][n]]
                name = _class_name(number, class_names)
                writer.writerow([row.name, number, name, f"{answer['scores'][n]:.6f}", *corners])
