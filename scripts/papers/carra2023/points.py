"""What scripts/papers/carra2023 has measured, subject by subject, and how a section of its page is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from scripts.papers.common.rate_study import Subject, read_points
from splitlearn.analysis import RatePoint
from splitlearn.analysis.rate_points import ENTROPY, cheapest

KB = 1024
CODECS = (ENTROPY, "zlib-6", "run-length", "Huffman", "ContextRANS")
LAYOUTS = {
    "test": "CIFAR-10 as JPEG, test",
    "images/val2017": "COCO, val2017",
    "val": "ImageNet, validation",
    ".": "ImageNet sample",
}
REMARKS = {
    "test": "The networks for CIFAR-10 were trained and are tested on JPEG images: their accuracies stand beside each "
    "other, not beside published ones.",
    ".": "The ImageNet sample may have been trained on: no accuracy on it is ImageNet's.",
}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        heading: its title.
        paper: what the paper says.
        ours: what is found here.
        table: Markdown; may be empty.
        plots: names of pictures beside the page, by what they show.
        records: the same for results.json.
    """

    heading: str
    paper: str
    ours: str
    table: str = ""
    plots: dict[str, str] = field(default_factory=dict)
    records: Any = None

    def markdown(self) -> str:
        """Return it as Markdown."""
        plots = "\n\n".join(f"![{text}]({name})" for name, text in self.plots.items())
        parts = [f"## {self.heading}", f"*The paper:* {self.paper}", f"*Here:* {self.ours}", self.table, plots]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"


def signed(change: float) -> str:
    """Return a change of a score 0…1 in points, with its sign."""
    return f"{100 * change:+.2f}".replace("-", "−")


@dataclass(frozen=True)
class Images:
    """Test images of a subject as files.

    Attributes:
        layout: key of `LAYOUTS`.
        count: how many.
        mean_bytes: of a JPEG file.
    """

    layout: str
    count: int
    mean_bytes: float


@cache
def images_in(root: Path) -> Images:
    """Return what JPEG files the test part of a data folder has; raises FileNotFoundError if there are none."""
    layout = next(part for part in LAYOUTS if (root / part).is_dir())
    sizes = [f.stat().st_size for f in (root / layout).rglob("*") if f.suffix.lower() in (".jpg", ".jpeg")]
    if not sizes:
        raise FileNotFoundError(f"{root / layout} holds no JPEG files: name a folder of data that does")
    return Images(layout, len(sizes), sum(sizes) / len(sizes))


@dataclass(frozen=True)
class Measured:
    """All points of a subject.

    Attributes:
        name: network and cut.
        detection: whether the score is a precision and not an accuracy.
        images: the test images.
        unsplit: score without quantization.
        points: min–max, all bits and codecs.
        files: of image files sent in its place; measured once a network.
    """

    name: str
    detection: bool
    images: Images
    unsplit: float
    points: tuple[RatePoint, ...]
    files: tuple[RatePoint, ...]

    @property
    def network(self) -> str:
        """Name without the cut."""
        return self.name.split()[0]

    @property
    def score_name(self) -> str:
        """Heading of a column."""
        return "mAP50–95 %" if self.detection else "top-1 %"

    @property
    def float_bytes(self) -> int:
        """Size of an image's floats at the cut."""
        point = next(p for p in self.points if p.codec == "run-length")
        return 4 * round(8 * point.bytes_per_image / point.bits_per_element)

    def of(self, codec: str) -> dict[int, RatePoint]:
        """Return the points of one codec by the number of bits."""
        return dict(sorted((int(p.setting.split()[0]), p) for p in self.points if p.codec == codec))

    def within_a_point(self, points: Iterable[RatePoint]) -> RatePoint | None:
        """Return the cheapest of these points that loses no more than one point of the score."""
        return cheapest(points, self.unsplit - 0.01)


def read(subjects: Sequence[Subject], runs: Path) -> list[Measured]:
    """Return what lies in the folders of the subjects."""
    found = {s.name: read_points((runs / s.slug).glob("[!.]*.json")) for s in subjects}
    return [_measured(subject, found) for subject in subjects]


def _measured(subject: Subject, found: dict[str, list[RatePoint]]) -> Measured:
    task = yaml.safe_load(Path(subject.config).read_text())["model"]["class_path"]
    own = found[subject.name]
    siblings = [points for name, points in found.items() if name.split()[0] == subject.name.split()[0]]
    files = ([p for p in points if p.method not in ("unsplit", "min–max")] for points in (own, *siblings))
    return Measured(
        name=subject.name,
        detection=task.endswith("DetectionTask"),
        images=images_in(subject.data),
        unsplit=next(p.score for p in own if p.method == "unsplit"),
        points=tuple(p for p in own if p.method == "min–max"),
        files=tuple(next((points for points in files if points), [])),
    )
