"""docs/results/photographs from what scripts/papers/photographs has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.rate_study import read_points
from scripts.papers.photographs.pictures import PICTURES
from scripts.papers.photographs.trainings import Case
from splitlearn.analysis import RatePoint
from splitlearn.analysis.rate_points import ENTROPY, cheapest
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table, plot_rates, rates_markdown, write_records

LOSS = 0.01  # how far below the unsplit network a setting may score
MIN_MAX, CLIPPED = "min–max", "clipped"


def clipped_behind(cut: str) -> str:
    """Return how clipped features of a cut far behind are called."""
    return f"{CLIPPED} behind {cut}"


@dataclass(frozen=True)
class Found:
    """All points of a case.

    Attributes:
        case: what was measured.
        unsplit: score of the unsplit network, 0…1.
        points: of all ways of sending.
        costs: MACs and time on the device by the way of sending.
    """

    case: Case
    unsplit: float
    points: Sequence[RatePoint]
    costs: Mapping[str, Mapping[str, float]]

    def of(self, method: str) -> list[RatePoint]:
        """Return the points of a method, smallest first."""
        return sorted((p for p in self.points if p.method == method), key=lambda p: p.bytes_per_image)

    @property
    def units(self) -> list[str]:
        """The methods of trained bottlenecks."""
        return list(dict.fromkeys(unit.method for unit in self.case.units))

    @property
    def untrained(self) -> list[str]:
        """The methods that send features without training."""
        return [MIN_MAX, CLIPPED, *self.far]

    @property
    def far(self) -> list[str]:
        """The method that sends clipped features of a cut far behind, if there is one."""
        return [clipped_behind(self.case.far)] if self.case.far else []

    @property
    def methods(self) -> list[str]:
        """All methods: pictures, untrained ones, trained ones."""
        return [*(name for name in PICTURES if self.of(name)), *self.untrained, *self.units]

    @property
    def pictures(self) -> list[RatePoint]:
        """The points of image files."""
        return [point for point in self.points if point.method in PICTURES]


def read(case: Case, runs: Path) -> Found:
    """Return what lies in a case's files; raises ValueError if it has points of another way of sending."""
    folder = runs / f"{case.subject.slug}_points"
    points = read_points(folder.glob("[!.]*_*.json"))
    unsplit = read_points([folder / "unsplit.json"])[0].score
    costs = json.loads((runs / f"{case.subject.slug}_costs.json").read_text())
    found = Found(case, unsplit, [p for p in points if p.codec != ENTROPY], costs)
    if unknown := {point.method for point in found.points} - {*found.methods}:
        raise ValueError(f"{folder} holds points of {', '.join(sorted(unknown))}, measured no more: remove these files")
    return found


def report(cases: Sequence[Case], runs: Path, out: Path) -> None:
    """Write page, CSV, JSON and plots from what lies in a folder of runs."""
    found, facts = [read(case, runs) for case in cases], record()
    out.mkdir(parents=True, exist_ok=True)
    write_records(out / "points.csv", {each.case.subject.name: each.points for each in found})
    results = {
        each.case.subject.name: {
            "unsplit": each.unsplit,
            "points": [asdict(point) for point in each.points],
            "costs": each.costs,
        }
        for each in found
    }
    write_json(out / "results.json", {**facts, "results": results})
    for each in found:
        curves = {
            method: [(p.bytes_per_image, p.score) for p in each.of(method)]
            for method in each.methods
            if each.of(method)
        }
        title = f"{each.case.subject.name}: {each.case.title}"
        plot_rates(curves, each.unsplit, out / f"{each.case.subject.slug}.png", title, each.case.score)
    write_page(out / "README.md", page(found, facts))


def page(found: Sequence[Found], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page of results."""
    parts = ["# Less than a picture: bottlenecks trained on photographs without labels\n", about(facts, "seed 0")]
    parts += [INTRODUCTION, summary(found)]
    for each in found:
        case = each.case
        parts.append(f"## {case.subject.name}: {case.title}\n")
        parts.append(f"{case.about} Unsplit: {100 * each.unsplit:.2f} %.\n")
        parts.append(f"![score against bytes]({case.subject.slug}.png)\n")
        parts += ["The cheapest setting of each way of sending that loses at most a point:\n", within_a_point(each)]
        parts += ["Each trained bottleneck against the smallest picture of at least its score:\n", same_score(each)]
        parts += ["What the device pays:\n", costs_table(each)]
        shown = [point for method in each.methods for point in each.of(method)]
        parts.append(f"<details><summary>all points</summary>\n\n{rates_markdown(shown, case.score)}\n</details>\n")
    return parts


INTRODUCTION = """A bottleneck learns from photographs, without their labels, to keep the answers of the frozen
network around it (`configs/photographs`): MobileNetV2's from the 3,000 training images of Caltech-101, YOLOv8n's from
128 images of COCO train2017, ResNet-20's from CIFAR-10's training images, some of which are held out to choose by.
Every image is sent through its real payload, headers counted; pictures are files of the pixels that the network takes,
sent to the whole network. Code tables of features are part of the model, which both sides have, and are no part of a
payload; the last column tells their size. A picture has its tables in each file; "JPEG, tables known" leaves out what
all files of one size and quality share. Min–max with run-length code and clipped levels
with contexts (ContextRANS) are not trained; limits and tables of the latter are calibrated on photographs that are
not tested; of MobileNetV2, they are also measured at a cut far behind, which was chosen on held-out training
photographs. Rates, losses and lengths of the trainings were chosen on training images that were held out; in the
tables, the cheapest of the measured settings is picked on the images that it is scored on, alike for all ways of
sending. What is in no table was not measured; points and times are kept, and may come from earlier runs.

## At most one point lost
"""


def summary(found: Sequence[Found]) -> str:
    """Return how many bytes are needed of those of the smallest picture and of clipped features at the first cut."""
    rows = []
    for each in found:
        limit = each.unsplit - LOSS
        picture, features = cheapest(each.pictures, limit), cheapest(each.of(CLIPPED), limit)
        for method in (*each.far, *each.units):
            mine = cheapest(each.of(method), limit)
            cells = [each.case.subject.name, method, _size(picture), _size(features), _size(mine)]
            tables = f"{mine.table_bytes:,}" if mine else "–"
            rows.append([*cells, _ratio(mine, picture), _ratio(mine, features), tables])
    heads = ["images", "sent", "smallest picture, B", f"{CLIPPED} + ContextRANS, B", "sent, B"]
    return markdown_table([*heads, "÷ picture", f"÷ {CLIPPED}", "tables, once, B"], rows, "llr")


def within_a_point(found: Found) -> str:
    """Return the cheapest settings that lose at most a point."""
    limit = found.unsplit - LOSS
    smallest, rows = cheapest(found.pictures, limit), []
    for method in found.methods:
        point = cheapest(found.of(method), limit)
        if point is None:
            rows.append([method, "none of those measured", "–", "–", "–"])
        else:
            rows.append([method, point.setting, _size(point), f"{100 * point.score:.2f}", _ratio(point, smallest)])
    return markdown_table(["sent", "setting", "bytes/image", found.case.score, "÷ smallest picture"], rows, "llr")


def same_score(found: Found) -> str:
    """Return, for each trained bottleneck, the smallest picture that scores as much."""
    rows = []
    for point in (point for method in found.units for point in found.of(method)):
        picture = cheapest(found.pictures, point.score)
        told = f"{picture.method}, {picture.setting}: {_size(picture)} B" if picture else "none of those measured"
        mine = [point.method, point.setting, _size(point), f"{100 * point.score:.2f}"]
        rows.append([*mine, told, _ratio(point, picture)])
    heads = ["bottleneck", "setting", "bytes/image", found.case.score, "smallest picture", "÷ picture"]
    return markdown_table(heads, rows, "llrrlr")


def costs_table(found: Found) -> str:
    """Return what a device computes."""
    rows = [[way, f"{c['device_macs'] / 1e6:,.0f}", f"{c['encode_ms']:.1f}"] for way, c in found.costs.items()]
    return markdown_table(["sent", "MACs on the device (millions)", "processor time (ms)"], rows)


def _size(point: RatePoint | None) -> str:
    return "–" if point is None else f"{point.bytes_per_image:,.0f}"


def _ratio(point: RatePoint | None, other: RatePoint | None) -> str:
    return f"**{point.bytes_per_image / other.bytes_per_image:.2f}**" if point and other else "–"
