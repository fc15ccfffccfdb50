"""docs/results/cohen2020 from what scripts/papers/cohen2020 and scripts/papers/carra2023 have measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.rate_study import Subject, read_points
from splitlearn.analysis import RatePoint
from splitlearn.analysis.rate_points import cheapest
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table, plot_rates, rates_markdown, write_records

LOSS = 0.01  # how far below the unsplit network a setting may score
OURS = "clipped, by predictions"
PAPER, MEASURED, UNCLIPPED = "clipped, by model", "clipped, least error", "unclipped"
CONSTRAINED = "entropy-constrained, ideal lengths", "entropy-constrained, unary lengths"
HEVC = "HEVC on tiled features"
NEAR = 0.02  # HEVC is compared where it loses no more than this
MISSING = "–"


@dataclass(frozen=True)
class Found:
    """All points of a subject.

    Attributes:
        subject: what was measured.
        unsplit: score of the unsplit network, 0…1.
        points: of quantizers on features.
        files: of image files sent to the whole network.
    """

    subject: Subject
    unsplit: float
    points: list[RatePoint]
    files: list[RatePoint]

    def best(self, method: str, codec: str) -> RatePoint | None:
        """Return the cheapest point of a method and codec that scores at most `LOSS` below the unsplit network."""
        mine = (p for p in self.points if (p.method, p.codec) == (method, codec))
        return cheapest(mine, self.unsplit - LOSS)

    def count(self, method: str, codec: str) -> int:
        """Return how many settings of a method and codec were measured."""
        return sum((p.method, p.codec) == (method, codec) for p in self.points)

    @property
    def score(self) -> str:
        """What is scored, with its unit."""
        return "mAP50–95 (%)" if "coco" in Path(self.subject.config).read_text() else "top-1 accuracy (%)"

    def curve(
        self, method: str, codec: str, x: Callable[[RatePoint], float] = lambda p: p.bytes_per_image
    ) -> list[tuple[float, float]]:
        """Return (x, score) of a method and codec."""
        return [(x(p), p.score) for p in [*self.points, *self.files] if (p.method, p.codec) == (method, codec)]


def read(subject: Subject, runs: Path, min_max_runs: Path, network: str) -> Found:
    """Return a subject's points from both scripts' folders."""
    mine = read_points((runs / subject.slug).glob("[!.]*.json"))
    min_max = read_points((min_max_runs / subject.slug).glob("min_max_*.json"))
    files = [p for p in read_points((min_max_runs / network).glob("[!.]*_*.json")) if p.method != "min–max"]
    unsplit = next(p.score for p in mine if p.method == "unsplit")
    points = [p for p in mine + min_max if p.method != "unsplit"]
    return Found(subject, unsplit, points, files)


def report(subjects: Sequence[Subject], runs: Path, min_max_runs: Path, out: Path) -> None:
    """Write page, CSV, JSON and plots from the points in both scripts' folders."""
    found = [read(s, runs, min_max_runs, s.slug.replace("layer1", "layer2")) for s in subjects]
    out.mkdir(parents=True, exist_ok=True)
    write_records(out / "points.csv", {f.subject.name: [*f.points, *f.files] for f in found})
    facts = record()
    points = {f.subject.name: [asdict(p) for p in f.points] for f in found}
    write_json(out / "results.json", {**facts, "unsplit": {f.subject.name: f.unsplit for f in found}, "points": points})
    for each in found:
        _plots(each, out)
    write_page(out / "README.md", page(found, facts))


def _plots(found: Found, out: Path) -> None:
    name, slug = found.subject.name, found.subject.slug
    curves = {
        "min–max + run-length (Carra & Neglia)": found.curve("min–max", "run-length"),
        "min–max + ContextRANS": found.curve("min–max", "ContextRANS"),
        "clipped by model + truncated unary (Cohen et al.)": found.curve(PAPER, "TruncatedUnary"),
        f"{OURS} + ContextRANS (ours)": found.curve(OURS, "ContextRANS"),
        HEVC: found.curve(HEVC, HEVC),
        "JPEG image, whole network on the server": found.curve("JPEG", "JPEG"),
        "WebP image": found.curve("WebP", "WebP"),
    }
    plot_rates(_filled(curves), found.unsplit, out / f"{slug}_bytes.png", f"{name}: nothing retrained", found.score)
    methods = (PAPER, MEASURED, UNCLIPPED, *CONSTRAINED)
    bits = {label: found.curve(label, "TruncatedUnary", _bits) for label in methods}
    bits |= {
        HEVC: found.curve(HEVC, HEVC, _bits),
        f"{OURS} + ContextRANS (ours)": found.curve(OURS, "ContextRANS", _bits),
    }
    title = f"{name}: truncated unary code, unless said"
    rate = "payload (bits per element, log scale)"
    plot_rates(_filled(bits), found.unsplit, out / f"{slug}_bits.png", title, found.score, rate)


def _bits(point: RatePoint) -> float:
    return point.bits_per_element


def _filled(curves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Sequence[tuple[float, float]]]:
    return {label: curve for label, curve in curves.items() if curve}


def page(found: Sequence[Found], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page of results."""
    images = "; ".join(f"{f.subject.name} {f.subject.calibration_images}" for f in found)
    parts = [
        "# Compression without retraining: clipping, few levels, contexts\n",
        about(facts, "no seed"),
        INTRODUCTION.format(images=images),
        headline(found),
        BITS,
        bits_table(found),
    ]
    for each in found:
        slug = each.subject.slug
        parts.append(f"## {each.subject.name}: unsplit {100 * each.unsplit:.2f} %\n")
        parts.append(
            f"![score against bytes]({slug}_bytes.png)\n\n![score against bits per element]({slug}_bits.png)\n"
        )
        shown = sorted(each.points, key=lambda p: (p.method, p.codec, p.bytes_per_image))
        table = rates_markdown([p for p in shown if p.codec != "order-0 entropy"], each.score)
        parts.append(f"<details><summary>all points</summary>\n\n{table}\n</details>\n")
    return parts


INTRODUCTION = """Networks are cut and quantized as they are; nothing is trained. Levels and code tables are learnt
from other images without labels, at most so many: {images}. They are sent once and stand apart.
Scores are those of the quantized features, which payloads restore bit for bit: of each point the
first 50 images were decoded and compared. Payloads are counted whole, each image by itself.

CIFAR-10 images are JPEG files, 10,000 of them for testing; the standard error of their accuracies is 0.3
points. The ImageNet sample has 500 images, probably seen in training, and a standard error of 1.6 points;
COCO has 128 images here.

## At most one point lost

Of each method stands the cheapest of the measured settings that scores at most one point below the unsplit
network. It is picked on the images that it is scored on, and the methods have unlike numbers of settings (in
brackets), so a setting that just passes may do so by chance; the curves tell more. The last columns divide
the bytes of ours by those of min–max with run-length code, the method of Carra & Neglia 2023, and by those of
min–max with our code: the first gain is the quantizer's and the code's together, the second the quantizer's
alone. An image file goes to the whole network, on the server; where it is the smallest, splitting saves the
server work, not bytes.
"""
BITS = """
## Against the figures of Cohen, Choi & Bajić 2020

They report 0.6–0.8 bit per element at less than 1 % loss, and up to 1.3 % more accuracy than HEVC, for other
detectors and classifiers. Bits per element of the cheapest setting at most one point below the unsplit
network; and the accuracy over that of HEVC on tiled features, in points, of the best setting with no more
bytes, for each HEVC quality that loses at most two points. About 390 bytes of each HEVC payload are the
file's boxes and parameter sets; no variant is left out of them.
"""


def headline(found: Sequence[Found]) -> str:
    """Return the table of the cheapest settings."""
    columns = [("min–max", "run-length"), ("min–max", "ContextRANS"), (PAPER, "TruncatedUnary")]
    columns += [(UNCLIPPED, "ContextRANS"), (OURS, "ContextRANS")]
    rows = []
    for each in found:
        best = [each.best(*column) for column in columns]
        image = cheapest(each.files, each.unsplit - LOSS)
        cells = [_cell(p, each.count(*column)) for p, column in zip(best, columns, strict=True)]
        cells.append(f"{image.method}, {_cell(image, len(each.files))}" if image else MISSING)
        shares = _share(best[-1], best[0]), _share(best[-1], best[1])
        rows.append([each.subject.name, f"{100 * each.unsplit:.2f}", *cells, *shares])
    headings = ["network, cut", "unsplit %", *map(" + ".join, columns), "image file"]
    return markdown_table([*headings, "÷ run-length", "÷ min–max, same code"], rows)


def _share(ours: RatePoint | None, other: RatePoint | None) -> str:
    return f"**{ours.bytes_per_image / other.bytes_per_image:.2f}**" if ours and other else MISSING


def bits_table(found: Sequence[Found]) -> str:
    """Return bits per element of the paper's methods and ours, and what they gain over HEVC."""
    columns = [(method, "TruncatedUnary") for method in (PAPER, MEASURED, UNCLIPPED, *CONSTRAINED)]
    columns += [(OURS, "ContextRANS"), (HEVC, HEVC)]
    rows = []
    for each in found:
        bits = [f"{p.bits_per_element:.2f}" if p else MISSING for p in (each.best(*column) for column in columns)]
        gains = [_over_hevc(each, PAPER, "TruncatedUnary"), _over_hevc(each, OURS, "ContextRANS")]
        rows.append([each.subject.name, *bits, *gains])
    names = [method if method == codec else f"{method} + {codec}" for method, codec in columns]
    return markdown_table(["network, cut", *names, f"{PAPER} over HEVC", "ours over HEVC"], rows)


def _over_hevc(found: Found, method: str, codec: str) -> str:
    """Return the gain over each HEVC point near the unsplit score, at no more bytes."""
    mine = [p for p in found.points if (p.method, p.codec) == (method, codec)]
    gains = []
    for point in sorted((p for p in found.points if p.method == HEVC), key=lambda p: p.bytes_per_image):
        scores = [p.score for p in mine if p.bytes_per_image <= point.bytes_per_image]
        if scores and point.score >= found.unsplit - NEAR:
            gains.append(f"{100 * (max(scores) - point.score):+.1f}")
    return ", ".join(gains) or MISSING


def _cell(point: RatePoint | None, settings: int) -> str:
    if point is None:
        return f"{MISSING} ({settings})"
    return f"{point.bytes_per_image:,.0f} B: {point.setting}, {100 * point.score:.2f} % ({settings})"
