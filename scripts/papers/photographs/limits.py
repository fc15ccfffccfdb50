"""Rebuild docs/results/photographs/limits.md: what a detector's bottleneck gains from more photographs and more steps.

YOLOv8n cut at `model.4`, with a unit of 128 channels that learns the features at the cut, without labels: the first
stage of the study's, once on several numbers of photographs with equal steps, once for several numbers of steps on all
photographs. Boxes are scored on the study's test images, and nothing is chosen by them. Finished trainings and points
are kept in runs/photographs/limits, and a killed run goes on.

    scripts/papers/photographs/limits --coco FOLDER --yolo FILE

coco: images/{train,val}2017 and labels/val2017 in YOLO's format; yolo: weights of YOLOv8n.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.rate_study import Points, Study, read_points
from scripts.papers.common.runs import refuse_other_settings, run_command
from scripts.papers.photographs.cases import YOLO_WIDE, coco_case
from scripts.papers.photographs.trainings import CONFIGS, Case
from splitlearn.analysis import RatePoint
from splitlearn.data.finding import find_images
from splitlearn.deploy import load_bottleneck
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table
from splitlearn.reporting.rate_plots import Panel, plot_panels

RUNS = Path("runs/photographs/limits")
OUT = Path("docs/results/photographs")
RATE_WEIGHT = 0.02
HELD_OUT = 8  # photographs that are not trained on: they choose the best checkpoint
PHOTOGRAPHS, STEPS = (28, 56, 112), (400, 800, 1600)
EQUAL_STEPS = 800
ABOUT = f"""A unit of 128 channels behind `model.4` of YOLOv8n learns to restore the features there from photographs of
COCO train2017, without labels: the first stage of the study's training (rate weight {RATE_WEIGHT:g}, batches of 4,
{EQUAL_STEPS} steps unless said otherwise, each with its own one-cycle learning rate); {HELD_OUT} further photographs
choose the checkpoint. Boxes are scored on the 128 images of COCO val2017 of the study.
"""


def folder_of(photographs: Sequence[Path], count: int) -> Path:
    """Return a folder with links to the first photographs."""
    folder = RUNS / f"{count}_photographs"
    folder.mkdir(parents=True, exist_ok=True)
    for path in photographs[:count]:
        link = folder / path.name
        if not link.is_symlink():
            os.symlink(path.resolve(), link)
    return folder


def trained(case: Case, photographs: Sequence[Path], count: int, steps: int, settings: Sequence[str]) -> Path:
    """Return the bottleneck that so many photographs and steps give, trained first if it is absent."""
    folder = RUNS / f"{count}_photographs_{steps}_steps"
    found = folder / "photographs/stage1/bottleneck.safetensors"
    if not found.is_file():
        unit = [word for config in YOLO_WIDE.configs for word in ("--config", str(CONFIGS / config))]
        words = ["stages", "--config", "configs/trainer.yaml", *unit, *case.network, *YOLO_WIDE.settings]
        words += ["--data.root", str(folder_of(photographs, count + HELD_OUT + 1))]
        words += ["--data.val_size", str(HELD_OUT), "--data.test_size", "1", *settings]
        words += ["--model.rate_weight", f"{RATE_WEIGHT:g}", "--trainer.max_steps", str(steps)]
        place = ["--trainer.logger.save_dir", str(folder), "--stages", f"{CONFIGS}/stage1.yaml"]
        run_command([*words, *place], folder / "stages.log")
    return found


def scored(path: Path, name: str, study: Study) -> list[RatePoint]:
    """Return the point of a bottleneck on the test images."""
    model = load_bottleneck(path, study.model.net.network())
    return study.end_to_end("first stage", name, model)


def measured(case: Case, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Train and score what is missing; return the score unsplit, and (count, score, bytes per image) of both curves."""
    photographs = find_images(case.photos)
    refuse_other_settings(RUNS, {"settings": settings, "rate_weight": RATE_WEIGHT, "held_out": HELD_OUT})
    points = Points(RUNS / "points", case.subject)

    def curve(pairs: Sequence[tuple[int, int]], of: int) -> list[tuple[int, float, float]]:
        found = []
        for pair in pairs:
            name = "{}_photographs_{}_steps".format(*pair)
            points.add(name, partial(scored, trained(case, photographs, *pair, settings), name))
            (point,) = read_points([points.folder / f"{name}.json"])
            found.append((pair[of], point.score, point.bytes_per_image))
        return found

    return {
        "unsplit": read_points([points.folder / "unsplit.json"])[0].score,
        "photographs": curve([(count, EQUAL_STEPS) for count in PHOTOGRAPHS], 0),
        "steps": curve([(PHOTOGRAPHS[-1], steps) for steps in STEPS], 1),
    }


def page(found: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page."""
    parts = ["# What limits the detector's bottleneck\n", about(facts, "seed 0"), ABOUT]
    parts += [f"Unsplit: {100 * found['unsplit']:.2f} %.\n", "![precision against photographs and steps](limits.png)\n"]
    for name in ("photographs", "steps"):
        rows = [[f"{count:,}", f"{100 * score:.2f}", f"{size:,.0f}"] for count, score, size in found[name]]
        parts += [markdown_table([name, "mAP50–95 (%)", "bytes/image"], rows, "rrr"), ""]
    return parts


def main() -> None:
    """Run what is missing and write JSON file, plot and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True, help="images/{train,val}2017 and labels/val2017")
    parser.add_argument("--yolo", default="pretrained", help="weights of YOLOv8n; by default downloaded")
    parser.add_argument("--out", type=Path, default=OUT)
    options, settings = parser.parse_known_args()  # others are settings of all trainings, e.g. --data.batch_size 2
    found = measured(coco_case(options.coco, options.yolo), settings)
    facts = {"data": "COCO's photographs, letterboxed to 640×640", **record()}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "limits.json", {**facts, **found})
    lines = {"unsplit": 100 * found["unsplit"]}
    panels = [
        Panel("", {"first stage": [(n, 100 * score) for n, score, _ in found[name]]}, name, "mAP50–95 (%)", lines)
        for name in ("photographs", "steps")
    ]
    plot_panels(panels, options.out / "limits.png", "YOLOv8n, model.4: what more of each is worth")
    write_page(options.out / "limits.md", page(found, facts))


if __name__ == "__main__":
    main()
