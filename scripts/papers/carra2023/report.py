"""The page docs/results/carra2023: tables, figures and what they say, from measured points."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.papers.carra2023.features import (
    coefficients_section,
    differences_section,
    entropy_section,
    relevance_section,
    spectrum_section,
    video_section,
)
from scripts.papers.carra2023.points import LAYOUTS, REMARKS, Measured, Section, read
from scripts.papers.carra2023.rates import TIMED_IMAGES, files_section, rates_section, zlib_section
from scripts.papers.carra2023.sizes import sizes_section
from scripts.papers.carra2023.sources import Source, source_of
from scripts.papers.common.page import record, write_page
from scripts.papers.common.rate_study import Subject
from splitlearn.files import write_json
from splitlearn.reporting import write_records

STATISTICS_IMAGES = 200
SPECTRUM_IMAGES = 500
ANALYSED = ("ResNet-32 layer2", "MobileNetV2 features.6")
TIMED = ("ResNet-50 maxpool", "ResNet-32 layer1")
FILMED = ("YOLOv8n model.4",)
TITLE = "Quantization and run-length coding (Carra & Neglia 2023)"


def report(subjects: Sequence[Subject], runs: Path, out: Path, video: Path | None) -> None:
    """Write page, CSV files, results.json and plots, from the folder of points of each subject in `runs`.

    A video of a still camera is for Fig. 3. Raises ValueError if there are no subjects.
    """
    if not subjects:
        raise ValueError("there is nothing to report: name a folder of data, e.g. --cifar10 FOLDER")
    measured = read(subjects, runs)
    classifiers = [s for s, m in zip(subjects, measured, strict=True) if not m.detection]
    timed = source_of(_chosen(subjects, TIMED)[0], TIMED_IMAGES)
    many = [source_of(subject, SPECTRUM_IMAGES) for subject in _chosen(classifiers, ANALYSED)]
    sections = [
        sizes_section(measured),
        rates_section(measured, out),
        files_section(measured),
        zlib_section(measured, timed, out),
        *_feature_sections(many, out),
    ]
    if video is not None:
        sections.append(video_section(_chosen(subjects, FILMED)[0], video, out))
    points = {m.name: [*m.points, *m.files] for m in measured}
    write_records(out / "points.csv", points)
    images = {LAYOUTS[m.images.layout]: m.images.count for m in measured}
    facts = {"data": images, "seed": None, **record(), "load_average": os.getloadavg()[0]}
    everything = {
        "points": {name: [asdict(p) for p in several] for name, several in points.items()},
        "unsplit": {m.name: m.unsplit for m in measured},
        "sections": {s.heading: s.records for s in sections if s.records is not None},
    }
    write_json(out / "results.json", {**facts, **everything})
    write_page(out / "README.md", _page(measured, subjects, facts, sections))
    print(f"{out}: README.md, results.json, CSV files and plots written")


def _chosen(subjects: Sequence[Subject], names: Sequence[str]) -> list[Subject]:
    """Return the subjects with these names; if there is none, the first."""
    return [s for s in subjects if s.name in names] or list(subjects[:1])


def _feature_sections(many: Sequence[Source], out: Path) -> list[Section]:
    few = [source.fewer(STATISTICS_IMAGES) for source in many]
    if not few:
        return []
    makers = (coefficients_section, differences_section, entropy_section, relevance_section)
    return [*(make(few, out) for make in makers), spectrum_section(many, out)]


def _page(
    measured: Sequence[Measured], subjects: Sequence[Subject], record: Mapping[str, Any], sections: Sequence[Section]
) -> list[str]:
    data = "; ".join(f"{name}: {count:,} images" for name, count in record["data"].items())
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    learnt = ", ".join(f"{s.name} {s.calibration_images}" for s in subjects)
    remarks = " ".join(dict.fromkeys(REMARKS[m.images.layout] for m in measured if m.images.layout in REMARKS))
    head = f"""# {TITLE}

{data}; nothing is drawn at random: no seed; {record["processor"]}, {record["machine"]},
load {record["load_average"]:.1f}; {versions};
`{record["command"]}`; {record["date"]}.

Networks are cut, their features quantized to 2ⁿ even levels between each image's extremes and coded; nothing is
trained. Scores are those of the quantized features, which payloads restore bit for bit: of each point the first 50
images were decoded and compared. Bytes are means of payloads, all in them counted. ContextRANS has static tables, sent
once and learnt from images that are not tested, at most so many: {learnt}; other codes carry what they need. What the
paper says stands under its name; all other figures were computed here. {remarks}
"""
    return [head, *(section.markdown() for section in sections)]
