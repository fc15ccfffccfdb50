"""Report of a network's profile: a table for the terminal, a CSV file and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from torch import nn

from splitlearn.analysis.profile import ModuleProfile
from splitlearn.models.cutting import is_detector
from splitlearn.reporting.csv_files import write_csv
from splitlearn.reporting.figures import figure_file
from splitlearn.reporting.layer_plots import WHOLE
from splitlearn.reporting.log_ticks import plain_log_ticks


def profile_legend(network: nn.Module, depth: int | None) -> str:
    """Return an explanation of the columns of `profile_table`, and the option that shows more modules.

    `depth` is the largest number of dots in the names of the table's modules; None if modules were chosen by name.
    """
    text = (
        "kB: 1,024 bytes of float32, of the module's own output; tensors across: those of features that a cut sends; "
        "across × input: elements of all that it sends"
    )
    if is_detector(network):
        text += ", six sizes of the image among them"
    if depth is not None and any(name.count(".") > depth for name, _ in network.named_modules()):
        text += f"\nmodules inside those of the table: --depth {depth + 1}"
    return text


def profile_table(profiles: Sequence[ModuleProfile], title: str) -> Table:
    """Return a table with one row per module: output size, elements that a cut after it sends, parameters and MACs."""
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


def write_profile(profiles: Sequence[ModuleProfile], title: str, folder: Path) -> None:
    """Write profile.csv and profile.png to `folder`, which is made if absent."""
    rows = [asdict(p) | {"name": p.name or WHOLE, "output_shape": "x".join(map(str, p.output_shape))} for p in profiles]
    write_csv(folder / "profile.csv", list(rows[0]), (row.values() for row in rows))
    _plot(profiles, title, folder / "profile.png")


def _plot(profiles: Sequence[ModuleProfile], title: str, path: Path) -> None:
    """Plot elements across each cut as bars, MACs before it as a line, and parameters before it in a panel below."""
    width = min(max(7, 0.28 * len(profiles)), 20)
    with figure_file(path, 2, size=(width, 7), sharex=True, heights=(2, 1)) as (figure, (axes, weights)):
        positions = range(len(profiles))
        sizes = [p.relative_size if p.relative_crossing is None else p.relative_crossing for p in profiles]
        axes.bar(positions, sizes, color="tab:blue", label="crossing tensors")
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":", label="size of the input")
        axes.set(
            yscale="log",
            ylabel="elements across the cut / elements of the input",
            title=title,
            xlim=(-1, len(profiles)),
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
