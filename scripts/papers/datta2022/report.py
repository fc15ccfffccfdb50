"""Page, files and plots of docs/results/datta2022, from what a folder of runs holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.papers.common.page import about, write_page
from scripts.papers.datta2022.searches import Found, found_in
from scripts.papers.datta2022.sections import Section
from scripts.papers.datta2022.tables import (
    Curves,
    beside,
    compared,
    complexity_table,
    frontier_table,
    networks_table,
    place_of,
    rates_table,
    tested_curves,
)
from splitlearn.files import write_json
from splitlearn.reporting.figures import figure_file
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.sweep import write_trials
from splitlearn.sweep import frontier_of

ABOUT = """\
In each section, both recipes draw as many trials at random from the same cuts, channels and strides, and train each as
long, from the same cached features (float16, several augmented views of each image). Every trial is scored with real
payloads, headers included; a container takes 12 bytes of a payload. Images held out from training choose the frontiers,
for both recipes alike; what is on them was then scored once on the test images, which chose nothing. Static code tables
are fitted to the images held out, so rates there are slightly too small. There is one seed. Interpolations and BD-rates
leave out a chosen trial that another one beats on the test images too.

The paper's recipe is its unit as printed, the task's loss and the L1 norm, a step drawn with the other parameters,
static Huffman lengths, a learning rate of 0.01. At strides above 3 its 3×3 kernel passes over parts of the map. Ours
has norms in the unit and kernels that see every feature at any stride, feature distillation, `FactorizedRate`, static
`RANS` tables for each channel, a learning rate of 0.02, and one parameter less, since its norm learns the scale. Ours
was developed on ResNet-20 and CIFAR-10, with searches that looked at their test images.
"""
WHOLE = "ours, whole network trained"
BELOW = 20  # points below the unsplit score that a plot shows


def write(runs: Path, sections: Sequence[Section], out: Path) -> None:
    """Write page, CSV files, JSON file and plots of the sections of which a folder of runs holds results.

    Ends the script if it holds none.
    """
    found = [each for section in sections if (each := found_in(runs, section)) is not None]
    if not found:
        raise SystemExit(f"{runs} holds no section of which both recipes have a finished trial: name folders of data")
    parts = ["# Random searches over bottlenecks of frozen networks (Datta et al. 2022)\n", ABOUT]
    results = {}
    for each in found:
        curves = tested_curves(each)
        parts += section_parts(each, curves)
        results[each.section.slug] = facts_of(each) | {
            "unsplit": each.unsplit,
            "bd_rate_ours_against_the_papers": compared(each.section, curves),
        }
        for recipe in each.section.recipes:
            write_trials(out / f"{each.section.slug}_{recipe.slug}.csv", each.trials[recipe.name])
        plot(each, curves, out / f"{each.section.slug}.png")
    write_json(out / "results.json", results)
    write_page(out / "README.md", parts)
    told = ", ".join(each.section.title for each in found)
    print(f"{out}: README.md, results.json, CSV files and plots written; sections: {told}")


def facts_of(found: Found) -> dict[str, Any]:
    """Return what the page says of how a section was made."""
    images = found.images
    count = f"{images['train']:,} images to train on, {images['val']:,} held out, {images['test']:,} to test"
    return {"data": f"{found.section.data}; {count}", "seed": 0, **found.facts}


def section_parts(found: Found, curves: Curves) -> list[str]:
    """Return the parts of the page that tell of a section."""
    facts, section = facts_of(found), found.section
    counts = "; ".join(
        f"{name}: {len(several)} trials, {sum(bool(t.metrics) for t in several)} finished"
        for name, several in found.trials.items()
    )
    against = "; ".join(f"{cut} {value}" for cut, value in compared(section, curves).items())
    said = f"{counts}; {facts['epochs']} epochs each, {facts['views']} views of each image to train on."
    parts = [
        f"## {section.title}\n",
        about(facts),
        f"{said}\n",
        f"BD-rate of ours against the paper's recipe, on the test images: {against}.\n",
        f"![{section.score} against bits per pixel]({section.slug}.png)\n",
    ]
    if found.unsplit is not None:
        parts += [
            f"Unsplit {100 * found.unsplit:.2f} %. Bits per pixel at a loss of 1, 2 and 5 points (Table IV):\n",
            rates_table(found, curves, found.unsplit),
        ]
    if found.networks:
        parts += ["### Whole network against bottleneck alone\n", networks_table(found)]
    parts += ["### What a bottleneck costs (Tables II and III)\n", complexity_table(found)]
    for name, several in curves.items():
        if several[0].frontier:
            parts.append(f"### Frontier over both cuts, {name} recipe\n\n{frontier_table(section, several[0])}")
    return parts


def plot(found: Found, curves: Curves, path: Path) -> None:
    """Draw scores against bits a pixel, a panel a cut: all trials on images held out, the rest on test images."""
    section, tested = found.section, found.section.axes.tested
    cuts, whole = section.cuts, {n.number: n.measured for n in found.networks}
    with figure_file(path, len(cuts), len(cuts), (5 * len(cuts), 4.2), sharey=True) as (_, panels):
        for panel, cut in zip(panels, cuts, strict=True):
            for number, (recipe, several) in enumerate(curves.items()):
                for curve in (c for c in several if c.name == cut):
                    scattered = np.array(section.axes.points(curve.trials)).reshape(-1, 2)
                    front = np.array(tested.points(curve.frontier)).reshape(-1, 2)
                    panel.plot(scattered[:, 0], 100 * scattered[:, 1], ".", color=f"C{number}", alpha=0.35)
                    panel.plot(front[:, 0], 100 * front[:, 1], "o-", color=f"C{number}", markersize=4, label=recipe)
                    trained = [whole[t.number] for t in curve.frontier if t.number in whole]
                    if recipe == section.ours.name and trained:
                        points = [(p.bits_per_pixel, 100 * p.score) for p in trained]
                        panel.plot(*zip(*points, strict=True), "D", color="black", markersize=4, label=WHOLE)
            for number, (method, several_points) in enumerate(beside(found).items(), len(curves)):
                line = frontier_of([(p.bits_per_pixel, p.score) for p in several_points])
                place = place_of(method, section)
                label = method if place == "–" else f"{method}, {place}"
                panel.plot(line[:, 0], 100 * line[:, 1], "s--", color=f"C{number}", markersize=3.5, label=label)
            if found.unsplit is not None:
                panel.axhline(100 * found.unsplit, color="black", linewidth=1, label="unsplit")
                panel.set_ylim(100 * found.unsplit - BELOW, 100 * found.unsplit + 3)
            panel.set(xscale="log", xlabel="bits per pixel (log scale)", title=cut)
            plain_log_ticks(panel.xaxis)
            panel.grid(visible=True, which="both", alpha=0.3)
        panels[0].set_ylabel(section.score)
        panels[0].legend(fontsize=7)
