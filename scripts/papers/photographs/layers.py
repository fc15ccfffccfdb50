"""Rebuild docs/results/photographs/layers.md: what each term of the second stage is worth, on ResNet-20 for CIFAR-10.

The bottleneck of `configs/photographs/resnet20.yaml` is trained with all terms, without one of them at a time, and on
the features at the cut alone, all from the same first stage, at three rates each. Agreement and bytes are those of
2,000 training images that no training has seen; labels are not used. What is finished is not run again.

    scripts/papers/photographs/layers --data FOLDER        with FOLDER/train/<class>/*.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.runs import Run, refuse_other_settings
from scripts.papers.photographs.trainings import CONFIGS
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table
from splitlearn.shipped import located
from splitlearn.sweep import bd_rate

OUT = Path("docs/results/photographs")
NETWORK, SECOND = f"{CONFIGS}/resnet20.yaml", f"{CONFIGS}/stage2.yaml"
RATE_WEIGHTS = (0.03, 0.1, 0.3)
NO_OUTPUT = ("--model.output_distance", "null")
TERMS = {  # settings that leave terms out
    "all terms": (),
    "without `layer3.0`": ("--model.layers", "{layer3.2: 0.06}"),
    "without `layer3.2`": ("--model.layers", "{layer3.0: 0.06}"),
    "without the logits": NO_OUTPUT,
    "without the features at the cut": ("--model.cut_weight", "0"),
    "the logits alone": ("--model.layers", "null", "--model.cut_weight", "0"),
    "the features at the cut alone": ("--model.layers", "null", "--model.cut_weight", "1", *NO_OUTPUT),
}


def measured(data: Path, runs: Path, settings: tuple[str, ...]) -> dict[str, list[tuple[float, float]]]:
    """Train and test what is missing; return (bytes per image, agreement) at each rate, by the terms."""
    refuse_other_settings(
        runs, {"settings": settings, "configs": [located(Path(file)).read_text() for file in (NETWORK, SECOND)]}
    )
    first = Run(runs / "stage1", (f"{CONFIGS}/stage1.yaml",), ("--config", NETWORK, *settings))
    first.export(str(data))
    begun = ("--model.weights", str(first.folder / "bottleneck.safetensors"))
    found = {}
    for number, (name, left_out) in enumerate(TERMS.items()):
        points = []
        for weight in RATE_WEIGHTS:
            words = (*settings, *begun, *left_out, "--model.rate_weight", f"{weight:g}")
            run = Run(runs / f"{number}_{weight:g}", (NETWORK, SECOND), words)
            if run.newest("results.json") is None:
                run.fit(str(data))
            metrics = run.tested(str(data), "last")
            points.append((metrics["test/bytes_per_image"], metrics["test/agreement"]))
            print(f"{name}, rate weight {weight:g}: {points[-1][1]:.2%}, {points[-1][0]:,.0f} B")
        found[name] = points
    return found


def page(found: Mapping[str, list[tuple[float, float]]], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page."""
    whole, rows = found["all terms"], []
    for name, points in found.items():
        cells = [f"{size:,.0f} B, {100 * share:.2f} %" for size, share in points]
        rows.append([name, *cells, "–" if points is whole else _rate_against(points, whole)])
    heads = ["second stage", *(f"rate weight {weight:g}" for weight in RATE_WEIGHTS), "bytes at equal agreement"]
    return [
        "# What each term of the second stage is worth\n",
        about(facts, "seed 0"),
        ABOUT,
        markdown_table(heads, rows),
    ]


ABOUT = """A bottleneck behind `layer2` of ResNet-20 learns from CIFAR-10's training images, without labels, to keep the
network's answers. All rows start from one first stage. Bytes and agreement with the uncut network are those of 2,000
training images that no training has seen, so that the standard error of an agreement is 0.8 points; there is one seed.
The last column is the BD-rate against all terms: positive where leaving a term out costs bytes.
"""


def _rate_against(points: list[tuple[float, float]], whole: list[tuple[float, float]]) -> str:
    try:
        return f"{bd_rate(points, whole):+.1f} %"
    except ValueError:  # no agreement that both reach
        return "not comparable"


def main() -> None:
    """Run what is missing and write JSON file and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*.jpg")
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs/layers"), help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=OUT)
    options, settings = parser.parse_known_args()  # others are settings of all trainings, e.g. --trainer.max_steps 100
    found = measured(options.data / "train", options.runs, tuple(settings))
    facts = {"data": "CIFAR-10's training images as JPEG", **record()}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "layers.json", {**facts, "points": found})
    write_page(options.out / "layers.md", page(found, facts))


if __name__ == "__main__":
    main()
