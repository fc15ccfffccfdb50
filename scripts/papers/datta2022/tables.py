"""Tables of docs/results/datta2022: rates at a loss, whole networks, costs of bottlenecks, frontiers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scripts.papers.datta2022.searches import UNSPLIT, Found, Point
from scripts.papers.datta2022.sections import CUT, Section
from splitlearn.reporting import markdown_table
from splitlearn.reporting.sweep_figures import short_names
from splitlearn.sweep import Curve, Trial, bd_rate, curves_of, frontier_of, rate_at

LOSSES = (0.01, 0.02, 0.05)
Curves = Mapping[str, Sequence[Curve]]
"""Frontiers of a section by the name of the recipe: over all cuts, then one a cut; only their tested trials."""


def tested_curves(found: Found) -> Curves:
    """Return the frontiers on images held out, with those of their trials that have been scored on test images."""
    wanted = found.section.axes.tested.score
    curves = {}
    for name, trials in found.trials.items():
        curves[name] = [
            Curve(curve.name, curve.trials, [trial for trial in curve.frontier if wanted in trial.metrics])
            for curve in curves_of(trials, found.section.axes, CUT)
        ]
    return curves


def compared(section: Section, curves: Curves) -> dict[str, str]:
    """Return ours against the paper's by cut, on test images: the BD-rate in per cent, or why there is none."""
    found = {}
    tested = section.axes.tested
    for ours in curves[section.ours.name]:
        theirs = next((c for c in curves[section.paper.name] if c.name == ours.name), None)
        if theirs is None:
            continue
        points = tested.points(ours.frontier), tested.points(theirs.frontier)
        try:
            change = bd_rate(*points)
        except ValueError as error:
            found[ours.name] = f"– ({error})"
            continue
        scores = [[score for _, score in frontier_of(curve)] for curve in points]
        low, high = max(map(min, scores)), min(map(max, scores))  # what both curves have
        found[ours.name] = f"{change:+.1f} % over {100 * low:.2f}…{100 * high:.2f} %"
    return found


def rates_table(found: Found, curves: Curves, unsplit: float) -> str:
    """Return what a loss of some points costs in bits a pixel, interpolated on frontiers."""
    rows: list[list[str]] = []

    def add(method: str, cut: str, points: Sequence[tuple[float, float]]) -> None:
        least = min(score for _, score in points) if points else math.inf
        cells = [_rate(rate_at(points, unsplit - loss), clamped=unsplit - loss < least) for loss in LOSSES]
        rows.append([method, cut, *cells])

    for recipe, several in curves.items():
        for curve in several:
            add(recipe, curve.name, found.section.axes.tested.points(curve.frontier))
    for method, points in beside(found).items():
        add(method, place_of(method, found.section), [(p.bits_per_pixel, p.score) for p in points])
    return markdown_table(["method", "cut", *(f"−{100 * loss:g} points" for loss in LOSSES)], rows, "llr")


def beside(found: Found) -> dict[str, list[Point]]:
    """Return the points of methods without training by method, the unsplit network left out."""
    methods: dict[str, list[Point]] = {}
    for point in found.points:
        if point.method != UNSPLIT:
            methods.setdefault(point.method, []).append(point)
    return methods


def place_of(method: str, section: Section) -> str:
    """Return the cut at which a method without training was measured; a dash for image files, which cross before it."""
    return section.cuts[0] if method.startswith("min–max") else "–"


def _rate(rate: float, clamped: bool) -> str:
    """Return a rate for a table; of a score below all points, only the rate of the lowest of them is known."""
    return "–" if math.isnan(rate) else f"{'≤ ' if clamped else ''}{rate:.3g}"


def frontier_table(section: Section, curve: Curve) -> str:
    """Return a frontier as a Markdown table: what chose its trials, and what they reach on the test images."""
    names = [name for name in curve.frontier[0].values if name != CUT]
    headings = ["trial", "cut", f"held out: {section.score}", "bits/pixel", f"test: {section.score}", "bytes/image"]
    headings += ["bits/pixel", *short_names(names).values(), "parameters", "M MAC, device + edge"]
    val, tested = section.axes, section.axes.tested
    rows = []
    for t in curve.frontier:
        values = [f"{v:.3g}" if isinstance(v, float) else v for v in (t.values[name] for name in names)]
        held_out = [f"{100 * t.metrics[val.score]:.2f}", f"{t.metrics[val.rate]:.4f}"]
        score, size, rate = (t.metrics[name] for name in (tested.score, "test/bytes_per_image", tested.rate))
        cells = [t.number, t.values[CUT], *held_out, f"{100 * score:.2f}", f"{size:,.1f}", f"{rate:.4f}"]
        rows.append([*cells, *values, f"{t.metrics['bottleneck/parameters']:,.0f}", macs(t)])
    return markdown_table(headings, rows, "rlr")


def macs(trial: Trial) -> str:
    """Return the millions of MACs of a bottleneck, on the device and on the edge."""
    encoder, decoder = (trial.metrics[f"bottleneck/{part}_macs"] for part in ("encoder", "decoder"))
    return f"{encoder / 1e6:.2f} + {decoder / 1e6:.2f}"


def networks_table(found: Found) -> str:
    """Return the same points with the bottleneck alone and with the whole network trained."""
    tested = found.section.axes.tested
    alone = {trial.number: trial for trial in found.trials[found.section.ours.name]}
    score = found.section.score
    headings = ["cut", "channels", "stride", "rate_weight", f"bottleneck alone: {score}", "bits/pixel"]
    rows = []
    for network in found.networks:
        trial = alone[network.number]
        short = short_names(list(trial.values))
        values = {short[name]: value for name, value in trial.values.items()}
        cells = [trial.values[CUT], values["channels"], values["stride"], f"{values['rate_weight']:.3g}"]
        cells += [f"{100 * trial.metrics[tested.score]:.2f}", f"{trial.metrics[tested.rate]:.4f}"]
        rows.append([*cells, f"{100 * network.measured.score:.2f}", f"{network.measured.bits_per_pixel:.4f}"])
    said = (
        "Ours in both cases, as many epochs, from the same weights, at points of our frontiers on images held out; "
        "without distillation where the network trains, since there is no frozen network to copy."
    )
    return f"{said}\n\n{markdown_table([*headings, f'whole network: {score}', 'bits/pixel'], rows)}"


def complexity_table(found: Found) -> str:
    """Return the share of the network before each cut, and the largest bottleneck there against the network."""
    profile = found.profile
    said = f"The network has {profile['parameters']:,} parameters and {profile['macs'] / 1e6:,.2f} M MAC."
    cells = []
    for cut in found.section.cuts:
        for name, several in found.trials.items():
            here = [t for t in several if t.values[CUT] == cut and t.metrics]
            if here:
                largest = max(here, key=lambda t: t.metrics["bottleneck/parameters"])
                size = f"{largest.metrics['bottleneck/parameters']:,.0f}"
                cells.append([cut, f"{100 * profile['shares'][cut]:.2f} %", name, size, macs(largest)])
    headings = ["cut", "MAC before it", "recipe", "parameters of the largest bottleneck", "its M MAC, device + edge"]
    return f"{said}\n\n{markdown_table(headings, cells, 'lrlr')}"
