"""The page of scripts/papers/matsubara2020: tables and figures from the points that were measured."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.papers.matsubara2020.points import FLOAT, TABLE_IMAGES, Point
from scripts.papers.matsubara2020.runs import NAMES, Student, Teacher, seconds
from splitlearn.files import whole_file
from splitlearn.reporting import markdown_table, plot_rates

KB = 1024
KEPT = 0.9  # of the teacher's precision, at the least
ENTROPY = "order-0 entropy"
JPEG_95 = "quality 95"


@dataclass(frozen=True)
class Found:
    """All points of a teacher and its students.

    Attributes:
        teacher: the detector.
        inputs: points of the whole teacher, which is sent images.
        students: points of each student.
        errors: of the layers of each student, as `students_errors` gives them.
    """

    teacher: Teacher
    inputs: list[Point]
    students: dict[Student, list[Point]]
    errors: dict[Student, list[float]]

    @property
    def whole(self) -> Point:
        """The teacher on the images as they are."""
        return self.inputs[0]

    def image(self, method: str, setting: str = JPEG_95) -> Point:
        """Return the point of an image file."""
        return next(p for p in self.inputs if (p.method, p.setting) == (method, setting))


def cheapest(points: Sequence[Point], least: float) -> Point | None:
    """Return the point with the fewest bytes of those whose boxes score at least so much; None if there is none."""
    good = [p for p in points if p.bytes_per_image is not None and p.codec != ENTROPY and p.scores["map"] >= least]
    return min(good, key=lambda point: point.bytes_per_image or 0, default=None)


def detector_section(found: Found, out: Path) -> str:
    """Plot precision against size and bytes, write all points as CSV, and return the section of a detector."""
    kind = found.teacher.kind
    whole, name = found.whole.scores, NAMES[kind]
    trained = seconds(found.teacher.folder / "teacher")
    time = "" if trained is None else f", trained in {trained / 60:.0f} minutes of a processor"
    scores = ", ".join(f"{score} {100 * value:.1f} %" for score, value in whole.items())
    text = [f"## {name}, {found.teacher.protocol.network}\n", f"The teacher{time}: {scores}.\n"]
    text += [_students_table(found), _errors_table(found), _bytes_table(found), _expectations(found)]
    text.append(
        f"![precision against bytes](bytes_{kind}.png) ![precision against size](sizes_of_{kind}_tensors.png)\n"
    )
    _plot(found, out)
    _write([*found.inputs, *(p for points in found.students.values() for p in points)], out / f"points_{kind}.csv")
    text.append(f"All points: `points_{kind}.csv`.\n")
    return "\n".join(text)


def _students_table(found: Found) -> str:
    """Fig. 5: precision of what is not quantized against the size of the tensor."""
    keys = list(found.whole.scores)
    rows = []
    for student, points in found.students.items():
        point = next(p for p in points if p.setting == FLOAT)
        scores = [f"{100 * point.scores[key]:.1f}" for key in keys]
        share = f"{100 * point.scores['map'] / found.whole.scores['map']:.1f}"
        time = seconds(student.folder)
        minutes = "–" if time is None else f"{time / 60:.0f}"
        rows.append([student.channels, student.label, f"{100 * point.relative_size:.1f}", *scores, share, minutes])
    headings = ["C", "method", "tensor / input %", *(f"{key} %" for key in keys)]
    headings += ["boxes, of the teacher's %", "processor minutes of training"]
    return f"Students, nothing quantized (as Fig. 5, which has HND alone):\n\n{markdown_table(headings, rows, 'rlr')}"


def _errors_table(found: Found) -> str:
    """How well layers are copied, which tells why precision is kept or lost."""
    layers = [layer.removeprefix("backbone.body.") for layer in found.teacher.protocol.layers]
    rows = [[s.channels, s.label, *(f"{100 * error:.1f}" for error in errors)] for s, errors in found.errors.items()]
    said = "How far the students' layers are from the teacher's on these images, squared error over energy, in %:"
    return f"{said}\n\n{markdown_table(['C', 'method', *layers], rows, 'rlr')}"


def _bytes_table(found: Found) -> str:
    """Return what every way of sending costs."""
    jpeg = found.image("image as it is").bytes_per_image or 1
    rows: list[Point] = list(found.inputs)
    for points in found.students.values():
        for setting in dict.fromkeys(p.setting for p in points if p.setting != FLOAT):
            best = cheapest([p for p in points if p.setting == setting], -2)
            rows += [best] if best else []
    cells = []
    for p in rows:
        masks = f"{100 * p.scores['map_masks']:.1f}" if "map_masks" in p.scores else "–"
        size = p.bytes_per_image or 0
        rate = f"{size / KB:.2f}", f"{size / jpeg:.3f}", f"{p.table_bytes / KB:.1f}"
        cells.append([p.channels or "–", p.method, p.setting, p.codec, *rate, f"{100 * p.scores['map']:.1f}", masks])
    said = (
        "Real bytes, with headers; of each number of bits the smallest codec, chosen on these images. Static tables "
        f"are fitted to {TABLE_IMAGES} training images and cross once, beside the payloads. JPEG is made of decoded "
        "pixels: where the data set's own files are JPEG, it is the second generation."
    )
    headings = ["C", "sent", "bits, quality", "codec", "KB/image", "of JPEG q95", "tables, once, KB", "boxes map %"]
    return f"{said}\n\n{markdown_table([*headings, 'masks map %'], cells, 'rlllr')}"


def _expectations(found: Found) -> str:
    """Say what was hoped for, and what has come of it."""
    whole, jpeg = found.whole.scores["map"], found.image("image as it is").bytes_per_image or 1
    ghnd = {s: points for s, points in found.students.items() if s.label == "GHND"}
    if not ghnd:
        return ""
    middle = sorted(ghnd, key=lambda student: student.channels)[len(ghnd) // 2]
    kept = next(p for p in ghnd[middle] if p.setting == FLOAT).scores["map"] / whole
    text = f"GHND at C = {middle.channels} keeps {100 * kept:.1f} % of the teacher's box precision (hoped for: 90 %)."
    for student, points in found.students.items():
        if student.epochs is not None:
            score = next(p for p in points if p.setting == FLOAT).scores["map"]
            text += f" Trained for {student.epochs} epochs, C = {student.channels} keeps {100 * score / whole:.1f} %."
    best = cheapest([p for points in found.students.values() for p in points], KEPT * whole)
    if best is None:
        return f"{text} No student's payloads keep {100 * KEPT:.0f} %.\n"
    small = cheapest([p for p in found.inputs if p.method == "image resized"], KEPT * whole)
    text += (
        f" The fewest bytes that keep {100 * KEPT:.0f} %: {best.method}, C = {best.channels}, {best.setting}, "
        f"{best.codec}, {(best.bytes_per_image or 0) / KB:.2f} KB, {(best.bytes_per_image or 0) / jpeg:.3f} of JPEG at "
        "quality 95 (hoped for: 0.25)."
    )
    if small is not None:
        text += (
            f" A JPEG of what the detector looks at keeps as much with {(small.bytes_per_image or 0) / KB:.2f} KB "
            f"({small.setting}): a detector of small images needs few bytes of them."
        )
    return text + "\n"


def _plot(found: Found, out: Path) -> None:
    kind, whole = found.teacher.kind, found.whole.scores["map"]
    curves: dict[str, list[tuple[float, float]]] = {}
    for method in ("image as it is", "image resized"):
        points = [p for p in found.inputs if p.method == method and p.codec == "JPEG"]
        curves[f"JPEG, {method}"] = [((p.bytes_per_image or 0) / KB, p.scores["map"]) for p in points]
    sizes: dict[str, list[tuple[float, float]]] = {}
    for student, points in found.students.items():
        label = f"{student.label}, C = {student.channels}"
        settings = dict.fromkeys(p.setting for p in points if p.setting != FLOAT)
        best = [cheapest([p for p in points if p.setting == setting], -2) for setting in settings]
        curves[label] = [((p.bytes_per_image or 0) / KB, p.scores["map"]) for p in best if p]
        point = next(p for p in points if p.setting == FLOAT)
        sizes.setdefault(student.label, []).append((100 * point.relative_size, point.scores["map"]))
    title, score = f"{NAMES[kind]}, {found.teacher.protocol.network}", "box mAP (%)"
    plot_rates(curves, whole, out / f"bytes_{kind}.png", title, score, "payload (KB per image, log scale)")
    rate = "tensor that crosses, of the input (%, log scale)"
    plot_rates(sizes, whole, out / f"sizes_of_{kind}_tensors.png", title, score, rate)


def _write(points: Sequence[Point], path: Path) -> None:
    names = list(points[0].scores)
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["method", "channels", "setting", "codec", *names, "bytes_per_image", "relative_size", "table_bytes"]
        )
        for p in points:
            scores = [f"{p.scores[name]:.4f}" for name in names]
            size = "" if p.bytes_per_image is None else f"{p.bytes_per_image:.1f}"
            writer.writerow(
                [p.method, p.channels, p.setting, p.codec, *scores, size, f"{p.relative_size:.4f}", p.table_bytes]
            )
