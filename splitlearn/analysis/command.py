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

from splitlearn.analysis.profile import ModuleProfile, profile_model
from splitlearn.files import whole_file
from splitlearn.models import backbone

WIDEST = 200


def profile_command(
    name: str,
    input_shape: tuple[int, ...],
    weights: str | None,
    out: Path,
    depth: int,
    at: Sequence[str] | None = None,
) -> None:
    """Profile a network by name; print a table, write `out/profile.csv` and `out/profile.png`.

    Args:
        name: what `splitlearn.models.backbone` takes.
        input_shape: `(C, H, W)`.
        weights: file or name of weights, or None.
        out: folder, made if absent.
        depth: most dots in a listed module's name.
        at: names of the modules to list, at any depth; None lists all down to `depth`.
    """
    network = backbone(name, weights)
    profiles = profile_model(network, input_shape, depth, at)
    _write_csv(profiles, out / "profile.csv")
    _plot(profiles, name, out / "profile.png")
    size = f"{4 * math.prod(input_shape) / 1024:,.1f} kB"
    table, console = _table(profiles, f"{name}, input {'×'.join(map(str, input_shape))}: {size}"), Console()
    # a narrow terminal wraps its lines, but no figure is lost
    widest = console.measure(table, options=console.options.update_width(WIDEST)).maximum
    console.width = max(console.width, widest)
    console.print(table)
    console.print(_legend(network, None if at else depth), soft_wrap=True)
    console.print(f"{out / 'profile.csv'} and {out / 'profile.png'} written", soft_wrap=True)


def _legend(network: nn.Module, depth: int | None) -> str:
    text = "kB: 1,024 bytes of float32, of the module's own output; across × input: all tensors that a cut sends"
    if depth is not None and any(name.count(".") > depth for name, _ in network.named_modules()):
        text += f"\nmodules inside those of the table: --depth {depth + 1}"
    return text


def _table(profiles: Sequence[ModuleProfile], title: str) -> Table:
    table = Table(title=title)
    table.add_column("module", no_wrap=True, min_width=max(len(p.name) for p in profiles))
    for column in ("output", "output\nkB", "tensors\nacross", "across\n× input", "params\nM", "MAC\nM", "MAC\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    for p in profiles:
        table.add_row(
            p.name,
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
        writer.writerows(asdict(p) | {"output_shape": "x".join(map(str, p.output_shape))} for p in profiles)


def _plot(profiles: Sequence[ModuleProfile], title: str, path: Path) -> None:
    """Bars: what a cut would carry; line: the work before it."""
    import matplotlib.pyplot as plt  # slow to import, and only needed here

    figure, axes = plt.subplots(figsize=(min(max(7, 0.28 * len(profiles)), 20), 5), layout="constrained")
    positions = range(len(profiles))
    sizes = [p.relative_size if p.relative_crossing is None else p.relative_crossing for p in profiles]
    axes.bar(positions, sizes, color="tab:blue", label="crossing tensors")
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":", label="size of the input")
    axes.set(
        yscale="log", ylabel="elements across the cut / elements of the input", title=title, xlim=(-1, len(profiles))
    )
    axes.set_xticks(positions, [p.name for p in profiles], rotation=90, fontsize=7)
    work = axes.twinx()
    work.plot(
        positions, [p.cumulative_macs / 1e6 for p in profiles], color="tab:red", marker=".", label="M MAC on device"
    )
    work.set(ylabel="multiply–accumulates before the cut (millions)", ylim=(0, None))
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
