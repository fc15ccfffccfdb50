"""`splitlearn profile`: table, CSV file and plot."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import nn

from splitlearn.analysis.detector_profile import core_modules, is_rcnn
from splitlearn.analysis.profile import ModuleProfile, profile_model, smaller_cut
from splitlearn.files import whole_file
from splitlearn.models import backbone
from splitlearn.models.cutting import is_detector
from splitlearn.reporting.advice import advice
from splitlearn.reporting.layer_plots import WHOLE
from splitlearn.reporting.log_ticks import plain_log_ticks
from splitlearn.reporting.terminal import print_whole


def profile_command(
    name: str,
    input_shape: tuple[int, ...],
    weights: str | None,
    out: Path,
    depth: int | None = None,
    at: Sequence[str] | None = None,
) -> None:
    """Profile a network by name; print a table and where splitting would help, write two files.

    These are `out/profile.csv` and `out/profile.png`.

    Args:
        name: what `splitlearn.models.backbone` takes.
        input_shape: `(C, H, W)`.
        weights: file or name of weights, or None.
        out: folder, made if absent.
        depth: most dots in a listed module's name; None lists the core modules of an R-CNN detector, and of other
            networks those down to a depth of 1.
        at: names of the modules to list, at any depth; None lists all down to `depth`.
    """
    network = backbone(name, weights)
    if depth is None and at is None:
        depth, at = (None, core_modules(network)) if is_rcnn(network) else (1, None)
    profiles = profile_model(network, input_shape, depth, at)
    is_any_smaller = any(p.relative_crossing is not None and p.relative_crossing < 1 for p in profiles)
    elsewhere = None if is_any_smaller else smaller_cut(network, input_shape, [p.name for p in profiles])
    _write_csv(profiles, out / "profile.csv")
    _plot(profiles, name, out / "profile.png")
    size = f"{4 * math.prod(input_shape) / 1024:,.1f} kB"
    table, console = _table(profiles, f"{name}, input {'×'.join(map(str, input_shape))}: {size}"), Console()
    print_whole(table)
    console.print(_legend(network, None if at else depth), soft_wrap=True)
    console.print(advice(profiles, elsewhere), soft_wrap=True)
    console.print(f"{out / 'profile.csv'} and {out / 'profile.png'} written", soft_wrap=True)


def _legend(network: nn.Module, depth: int | None) -> str:
    text = (
        "kB: 1,024 bytes of float32, of the module's own output; tensors across: those of features that a cut sends; "
        "across × input: elements of all that it sends"
    )
    if is_detector(network):
        text += ", six sizes of the image among them"
    if depth is not None and any(name.count(".") > depth for name, _ in network.named_modules()):
        text += f"\nmodules inside those of the table: --depth {depth + 1}"
    return text


def _table(profiles: Sequence[ModuleProfile], title: str) -> Table:
    table = Table(title=title)
    table.add_column("module", no_wrap=True, min_width=max(len(p.name or WHOLE) for p in profiles))
    for column in ("output", "output\nkB", "tensors\nacross", "across\n× input", "params\nM", "MAC\nM", "MAC\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    for p in profiles:
        table.add_row(
            p.name or WHOLE,
            "×".join(map(str, p.output_shape)),
            f"{4 * p.output_size / 1024:,.1f}",
            "?" if p.crossing_tensors is None else str(p.crossing_tensors),
            "?" if p.relative_crossing is None else f"{p.relative_crossing:.3f}",
            f"{p.cumulative_parameters / 1e6:.3f}",
            f"{p.cumulative_macs / 1e6:,.1f}",
            f"{100 * p.relative_macs:.2f}",
        )
    return table


def _write_csv(profiles: Sequence[ModuleProfile], path: Path) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(ModuleProfile)])
        writer.writeheader()
        for p in profiles:
            shape = "x".join(map(str, p.output_shape))
            writer.writerow(asdict(p) | {"name": p.name or WHOLE, "output_shape": shape})


def _plot(profiles: Sequence[ModuleProfile], title: str, path: Path) -> None:
    """Bars: what a cut would carry; lines: the work before it, and below the parameters."""
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    width = min(max(7, 0.28 * len(profiles)), 20)
    figure, (axes, weights) = plt.subplots(
        2, figsize=(width, 7), height_ratios=(2, 1), sharex=True, layout="constrained"
    )
    positions = range(len(profiles))
    sizes = [p.relative_size if p.relative_crossing is None else p.relative_crossing for p in profiles]
    axes.bar(positions, sizes, color="tab:blue", label="crossing tensors")
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":", label="size of the input")
    axes.set(
        yscale="log", ylabel="elements across the cut / elements of the input", title=title, xlim=(-1, len(profiles))
    )
    parameters = [p.cumulative_parameters / 1e6 for p in profiles]
    weights.plot(positions, parameters, color="tab:green", marker=".", label="M parameters on device")
    weights.set(ylabel="parameters before the cut (millions)", ylim=(0, None))
    weights.set_xticks(positions, [p.name or WHOLE for p in profiles], rotation=90, fontsize=7)
    plain_log_ticks(axes.yaxis)
    work = axes.twinx()
    work.plot(
        positions, [p.cumulative_macs / 1e6 for p in profiles], color="tab:red", marker=".", label="M MAC on device"
    )
    work.set(ylabel="multiply–accumulates before the cut (millions)", ylim=(0, None))
    figure.legend(loc="outside upper right", ncols=4, fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
