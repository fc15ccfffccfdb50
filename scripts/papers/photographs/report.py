"""docs/results/photographs from what scripts/papers/photographs has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.rate_study import Subject, read_points
from splitlearn.analysis import RatePoint
from splitlearn.analysis.rate_points import ENTROPY, cheapest
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table, plot_rates, rates_markdown, write_records

LOSS = 0.01  # how far below the unsplit network a setting may score
OURS, MIN_MAX, CLIPPED = "trained on photographs", "min–max", "clipped"
SCORE = "top-1 accuracy (%)"


@dataclass(frozen=True)
class Found:
    """All points of a subject.

    Attributes:
        subject: what was measured.
        unsplit: accuracy of the unsplit network, 0…1.
        points: of all ways of sending.
        costs: MACs and time on the device by the way of sending.
    """

    subject: Subject
    unsplit: float
    points: Sequence[RatePoint]
    costs: Mapping[str, Mapping[str, float]]

    def of(self, *methods: str) -> list[RatePoint]:
        """Return the points of some methods."""
        return [point for point in self.points if point.method in methods]

    @property
    def pictures(self) -> list[RatePoint]:
        """The points of image files."""
        return [point for point in self.points if point.method not in (OURS, MIN_MAX, CLIPPED)]


def read(subject: Subject, runs: Path) -> Found:
    """Return what lies in a subject's files."""
    points = read_points((runs / f"{subject.slug}_points").glob("[!.]*_*.json"))
    unsplit = read_points([runs / f"{subject.slug}_points/unsplit.json"])[0].score
    costs = json.loads((runs / f"{subject.slug}_costs.json").read_text())
    return Found(subject, unsplit, [p for p in points if p.codec != ENTROPY], costs)


def report(subjects: Sequence[Subject], runs: Path, out: Path) -> None:
    """Write page, CSV, JSON and plots from what lies in a folder of runs."""
    found, facts = [read(subject, runs) for subject in subjects], record()
    out.mkdir(parents=True, exist_ok=True)
    write_records(out / "points.csv", {each.subject.name: each.points for each in found})
    results = {
        each.subject.name: {
            "unsplit": each.unsplit,
            "points": [asdict(point) for point in each.points],
            "costs": each.costs,
        }
        for each in found
    }
    write_json(out / "results.json", {**facts, "results": results})
    for each in found:
        methods = list(dict.fromkeys(point.method for point in each.points))
        curves = {method: [(p.bytes_per_image, p.score) for p in each.of(method)] for method in methods}
        title = f"{each.subject.name}: MobileNetV2, features.6"
        plot_rates(curves, each.unsplit, out / f"{each.subject.slug}.png", title, SCORE)
    write_page(out / "README.md", page(found, facts))


def page(found: Sequence[Found], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page of results."""
    parts = ["# Less than a picture: bottlenecks trained on photographs without labels\n", about(facts, "seed 0")]
    parts += [INTRODUCTION, within_a_point(found), SAME_ACCURACY, same_accuracy(found)]
    for each in found:
        parts.append(f"## {each.subject.name}: unsplit {100 * each.unsplit:.2f} %\n")
        parts.append(f"![accuracy against bytes]({each.subject.slug}.png)\n")
        parts.append(costs_table(each))
        shown = sorted(each.points, key=lambda p: (p.method, p.bytes_per_image))
        parts.append(f"<details><summary>all points</summary>\n\n{rates_markdown(shown, SCORE)}\n</details>\n")
    return parts


INTRODUCTION = """MobileNetV2 is cut at `features.6`; a bottleneck there learns from 3,000 photographs, without
their labels, to keep the answers of the network (`configs/photographs`). Every image is sent through its real payload,
headers counted; pictures are files of the 224×224 pixels that the network takes, sent to the whole network. "JPEG,
tables known" leaves out what all files of one quality share. Min–max with run-length code and clipped levels with
context are not trained; the latter's limits and tables are calibrated on 128 of the photographs.

Caltech-101: 1,714 test images in 100 classes, which a linear classifier on the frozen network tells apart; standard
error 0.7 points. ImageNet sample: 500 images, probably seen in training by the network, standard error 1.6 points.

## At most one point lost

The cheapest of the measured settings, picked on the images that it is scored on.
"""
SAME_ACCURACY = """
## Against the smallest picture of at least the same accuracy
"""


def within_a_point(found: Sequence[Found]) -> str:
    """Return the cheapest settings that lose at most a point."""
    rows = []
    for each in found:
        limit = each.unsplit - LOSS
        ways = [cheapest(points, limit) for points in (each.pictures, *(each.of(m) for m in (MIN_MAX, CLIPPED, OURS)))]
        ratio = f"**{ways[-1].bytes_per_image / ways[0].bytes_per_image:.2f}**" if ways[0] and ways[-1] else "–"
        rows.append([each.subject.name, f"{100 * each.unsplit:.2f}", *map(_cell, ways), ratio])
    headings = ["images", "unsplit %", "smallest picture", f"{MIN_MAX} + run-length", f"{CLIPPED} + ContextRANS", OURS]
    return markdown_table([*headings, "÷ picture"], rows)


def same_accuracy(found: Sequence[Found]) -> str:
    """Return, for each trained bottleneck, the smallest picture that scores as much."""
    rows = []
    for each in found:
        for point in sorted(each.of(OURS), key=lambda p: p.bytes_per_image):
            picture = cheapest(each.pictures, point.score)
            ratio = f"**{point.bytes_per_image / picture.bytes_per_image:.2f}**" if picture else "–"
            mine = f"{point.bytes_per_image:,.0f} B", f"{100 * point.score:.2f}"
            rows.append([each.subject.name, point.setting, *mine, _cell(picture), ratio])
    return markdown_table(["images", "bottleneck", "bytes/image", SCORE, "smallest picture", "÷ picture"], rows)


def costs_table(found: Found) -> str:
    """Return what a device computes."""
    rows = [[way, f"{c['device_macs'] / 1e6:.0f}", f"{c['encode_ms']:.1f}"] for way, c in found.costs.items()]
    return markdown_table(["sent", "MACs on the device (millions)", "processor time (ms)"], rows)


def _cell(point: RatePoint | None) -> str:
    if point is None:
        return "none"
    return f"{point.method}, {point.setting}: {point.bytes_per_image:,.0f} B, {100 * point.score:.2f} %"
