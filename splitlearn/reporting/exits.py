"""Report of a network with early exits: tables and sentences for the terminal, JSON and CSV files, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from splitlearn.analysis.exit_evaluation import THRESHOLDS, Evaluation
from splitlearn.analysis.exit_scores import CODECS, ThresholdPoint
from splitlearn.files import write_json
from splitlearn.reporting.csv_files import write_csv
from splitlearn.reporting.rate_plots import Panel, plot_panels
from splitlearn.reporting.terminal import print_whole

KB = 1024


def report_exits(
    found: Evaluation, accuracies: Sequence[float], out: Path, title: str, about: Mapping[str, Any]
) -> None:
    """Print tables of codecs and thresholds; write exits.json, exits.csv and exits.png to `out`.

    Args:
        found: results that `evaluate_exits` has returned.
        accuracies: accuracies, 0…1, for which to find the threshold with the fewest bytes.
        out: folder for the files, made if absent.
        title: heading of the plot.
        about: further entries of exits.json, such as data, machine, command and date.
    """
    console, summary, cheapest = Console(), found.summary(), found.cheapest(accuracies)
    points = [found.scores.at(threshold) for threshold in THRESHOLDS]
    print_whole(_sizes_table(found))
    print_whole(_points_table(points))
    console.print(_words(summary), soft_wrap=True)
    for accuracy, each in cheapest.items():
        console.print(_cheapest_words(float(accuracy), each), soft_wrap=True)
    write_json(out / "exits.json", {**about, **summary, "cheapest": cheapest})
    headings = ["threshold", "accuracy", "exit_share", *(f"{name}_bytes" for name in CODECS)]
    rows = ([p.threshold, p.accuracy, p.exit_share, *p.bytes_per_image.values()] for p in points)
    write_csv(out / "exits.csv", headings, rows)
    curves = {
        name: [(p.bytes_per_image[name] / KB, 100 * p.accuracy) for p in points] for name in CODECS if name != "CSR"
    }
    panel = Panel("", curves, "KB per image (mean, images that exit early count as 0)", "accuracy (%)")
    plot_panels([panel], out / "exits.png", title)
    console.print(f"{out}: exits.json, exits.csv and exits.png written", soft_wrap=True)


def _sizes_table(found: Evaluation) -> Table:
    table = Table("codec", "KB/image", "bits/value", "tables, once (B)", title="each image sent, INT8")
    for name, sizes in found.scores.sizes.items():
        mean = float(sizes.mean())
        bits = 8 * mean / found.scores.values
        table.add_row(name, f"{mean / KB:.2f}", f"{bits:.2f}", f"{found.table_bytes[name]:,}")
    return table


def _points_table(points: Sequence[ThresholdPoint]) -> Table:
    table = Table("T_c", "accuracy %", "left early %", *(f"{name} KB" for name in CODECS), title="over the threshold")
    for p in points:
        sizes = (f"{p.bytes_per_image[name] / KB:.2f}" for name in CODECS)
        table.add_row(f"{p.threshold:g}", f"{100 * p.accuracy:.2f}", f"{100 * p.exit_share:.1f}", *sizes)
    return table


def _words(summary: Mapping[str, Any]) -> str:
    shares = summary["partition"]
    pairs = zip(summary["float_accuracies"], summary["accuracies"], strict=True)
    lines = [
        "accuracy of each exit on all images, float → INT8: "
        + ", ".join(f"{100 * before:.2f} → {100 * after:.2f} %" for before, after in pairs)
        + (" (collapsed: no better than a guess)" if summary["collapsed"] else ""),
        f"entropy of the symbols {summary['entropy_bits']:.2f} bits each; {summary['int8_layers']} layers in INT8, "
        f"{summary['float_layers']} in float",
        f"device {4 * shares['device_weights'] / KB:,.1f} KB of float32 weights (exits "
        f"{4 * shares['exit_weights'] / KB:,.1f}), {shares['device_macs'] / 1e6:.1f} M MAC; "
        f"server {4 * shares['edge_weights'] / KB:,.1f} KB, {shares['edge_macs'] / 1e6:.1f} M MAC",
        "calibration error of each exit, and with the temperature fitted on validation images: "
        + ", ".join(
            f"{before:.3f} → {after:.3f} at T = {temperature:.2f}"
            for before, after, temperature in zip(
                summary["calibration_errors"], summary["calibrated_errors"], summary["temperatures"], strict=True
            )
        ),
    ]
    return "\n".join(lines)


def _cheapest_words(accuracy: float, points: Mapping[str, Any]) -> str:
    if None in points.values():
        return f"{100 * accuracy:g} % are not reached at any threshold"
    sizes = ", ".join(f"{name} {point['bytes_per_image'][name] / KB:.2f}" for name, point in points.items())
    return f"for {100 * accuracy:g} %, T_c free: {sizes} KB per image"
