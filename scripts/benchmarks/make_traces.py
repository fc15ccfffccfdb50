"""Writes bandwidth traces, always the same ones: a minute each, where the rates of ResNet-20's bank make a difference.

    steady      40 kbit/s
    stepped     another rate every 10 s, from 14 to 100 kbit/s
    cellular    around 40 kbit/s, drifting as the logarithm of a mobile link's rate does, with short fades
An image every 100 ms needs 7 kbit/s at the lowest rate of the bank and 22 kbit/s at the highest, and three times that
to cross within a third of the interval.
    scripts/benchmarks/make_traces --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

from splitlearn.files import whole_file

FOLDER = Path(__file__).parent / "traces"
SECONDS = 60
STEPS_KBIT = (60, 20, 40, 14, 100, 25)
STEP_S = 0.5  # of the cellular trace
MEAN_KBIT, KEPT, SPREAD = 40, 0.9, 0.2  # of its logarithm: mean, what a step keeps of the deviation, new deviation
FADES, FADE = 0.01, 0.2  # share of steps in a fade, and what is left there


def steady() -> list[tuple[float, float]]:
    """Return one rate."""
    return [(0.0, 40e3)]


def stepped() -> list[tuple[float, float]]:
    """Return a rate for every 10 s."""
    return [(10.0 * number, 1e3 * kbit) for number, kbit in enumerate(STEPS_KBIT)]


def cellular() -> list[tuple[float, float]]:
    """Return a rate for every half second, from a fixed seed."""
    source, deviation, found = random.Random(17), 0.0, []
    for number in range(int(SECONDS / STEP_S)):
        deviation = KEPT * deviation + source.gauss(0.0, SPREAD)
        rate = 1e3 * MEAN_KBIT * math.exp(deviation) * (FADE if source.random() < FADES else 1.0)
        found.append((STEP_S * number, float(round(rate))))
    return found


TRACES = {"steady": steady, "stepped": stepped, "cellular": cellular}


def text_of(steps: Sequence[tuple[float, float]]) -> str:
    """Return a trace as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seconds", "bits_per_second"])
    writer.writerows((f"{seconds:g}", f"{bits:.0f}") for seconds, bits in steps)
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the traces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: beside the script")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, make in TRACES.items():
        with whole_file(out / f"{name}.csv") as temporary:
            temporary.write_text(text_of(make()))
        print(out / f"{name}.csv")
