"""Comparisons of codecs as tables, files and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from math import log2
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from splitlearn.analysis.codec_comparison import STATIC, CodecRow
from splitlearn.analysis.table_transfer import TableTransfer
from splitlearn.files import write_json
from splitlearn.reporting.csv_files import write_records
from splitlearn.reporting.figures import MARKERS, figure_file
from splitlearn.reporting.markdown import markdown_table
from splitlearn.reporting.terminal import print_whole

Results = Mapping[str, Sequence[CodecRow]]
"""Rows by the name of the source."""

Moves = Mapping[tuple[str, str], Sequence[TableTransfer]]
"""Rows by the source of the static tables and the source of the latents."""

COLUMNS = (
    "levels",
    "codec",
    "bytes/image",
    "tables, once",
    "÷ entropy",
    "encode GB/s",
    "decode GB/s",
    "× zlib-1",
    "× zstd-1",
    "rounds",
)
RATIO = COLUMNS.index("÷ entropy")
LEGEND = """bytes/image: mean of the bare code, without the 15 to 25 bytes of a container; tables, once: static tables
in bytes, learnt from other images than the measured ones; ÷ entropy: over the order-0 entropy of each image; GB/s:
float32 input, quantization included, one thread; × zlib-1, × zstd-1: encode / decode throughput over theirs; rounds:
how often each image was coded, its best time counts."""


def print_codecs(rows: Sequence[CodecRow], title: str) -> None:
    """Print the rows as a table with a section for each alphabet; narrow terminals wrap lines but cut nothing off."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for name in COLUMNS:
        heading = name.replace(", ", "\n").replace("/i", "\n/i").replace(" ", "\n")
        table.add_column(heading, justify="left" if name == "codec" else "right", no_wrap=True)
    for _, group in groupby(rows, key=lambda row: row.levels):
        for row in group:
            table.add_row(*_cells(row))
        table.add_section()
    print_whole(table)


def codec_markdown(rows: Sequence[CodecRow]) -> str:
    """Return the rows as a Markdown table."""
    return markdown_table(COLUMNS, map(_cells, rows), "rlr")


def sizes_markdown(results: Results) -> str:
    """Return a Markdown table of bytes per image, with their ratio to the order-0 entropy; one column per alphabet."""
    levels = sorted({row.levels for rows in results.values() for row in rows})
    table = []
    for source, rows in results.items():
        for label in dict.fromkeys(row.codec for row in rows):
            sizes = {r.levels: f"{r.bytes_per_image:,.0f} ({_cells(r)[RATIO]})" for r in rows if r.codec == label}
            table.append([source, label, *(sizes.get(n, "–") for n in levels)])
    return markdown_table(["source", "codec", *(f"{n} levels" for n in levels)], table, "llr")


def transfer_markdown(moves: Moves) -> str:
    """Return a Markdown table of bytes per image, for each source of static tables and of latents."""
    headings = ["codec", "coded", "tables from", "levels", "bytes", "tables from its own kind", "loss %", "from itself"]

    def cells(row: TableTransfer, origin: str, coded: str) -> list[object]:
        sizes = f"{row.foreign_bytes:,.1f}", f"{row.fitted_bytes:,.1f}", f"{row.loss_percent:.2f}"
        return [row.codec, coded, origin, row.levels, *sizes, f"{row.seen_bytes:,.1f}"]

    return markdown_table(headings, (cells(row, *move) for move, rows in moves.items() for row in rows), "lllr")


def write_codecs(results: Results, folder: Path, name: str, title: str, about: Mapping[str, Any]) -> None:
    """Write `NAME.json`, `NAME.csv` and `NAME.png` to `folder`.

    Args:
        results: rows by the name of their source.
        folder: folder for the files, made if absent.
        name: name of the files, without suffix.
        title: heading of the plot.
        about: further entries of the JSON file, such as data, machine, versions, command and date.
    """
    sources = {source: [asdict(row) for row in rows] for source, rows in results.items()}
    write_json(folder / f"{name}.json", {**about, "columns": LEGEND.replace("\n", " "), "sources": sources})
    write_records(folder / f"{name}.csv", results)
    plot_codecs(results, folder / f"{name}.png", title)


def plot_codecs(results: Results, path: Path, title: str) -> None:
    """Plot for each source bytes against bits per symbol, and throughput against size near an alphabet of 8 levels."""
    labels = list(dict.fromkeys(row.codec for rows in results.values() for row in rows))
    styles = {label: _style(label, labels) for label in labels}
    size = 13, 1 + 4.6 * len(results)
    with figure_file(path, 2 * len(results), 2, size, title) as (figure, grid):
        for (source, rows), sizes, speeds in zip(results.items(), grid[::2], grid[1::2], strict=True):
            chosen = min({row.levels for row in rows}, key=lambda levels: abs(levels - 8))
            for label in labels:
                mine = sorted((row for row in rows if row.codec == label), key=lambda row: row.levels)
                bits = [log2(row.levels) for row in mine]
                sizes.plot(bits, [row.bytes_per_image for row in mine], **styles[label], linewidth=1)
                for row in mine:
                    if row.levels == chosen and row.entropy_ratio is not None:
                        speeds.plot(row.entropy_ratio, row.encode_gbps, **styles[label], linestyle="none")
            sizes.set_xticks(sorted({log2(row.levels) for row in rows}))
            sizes.xaxis.set_major_formatter("{x:.3g}")
            sizes.set(
                title=source, xlabel="bits per symbol, n", ylabel="code (bytes per image, log scale)", yscale="log"
            )
            speeds.set(
                title=f"{source}, {chosen} levels",
                xlabel="bytes over order-0 entropy (log scale)",
                ylabel="encode, from float32 (GB/s, log scale)",
                xscale="log",
                yscale="log",
            )
            speeds.axvline(1, color="black", linewidth=0.8, linestyle=":")
            for axis in (sizes.yaxis, speeds.xaxis, speeds.yaxis):
                axis.set_major_formatter("{x:,.9g}")
                axis.set_minor_formatter(_few)
            for axes in (sizes, speeds):
                axes.grid(visible=True, which="both", alpha=0.3)
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize=9)


def _cells(row: CodecRow) -> list[str]:
    return [
        str(row.levels),
        row.codec,
        f"{row.bytes_per_image:,.1f}",
        str(row.table_bytes or "–"),
        "–" if row.entropy_ratio is None else f"{row.entropy_ratio:.3f}",
        f"{row.encode_gbps:.3g}",
        f"{row.decode_gbps:.3g}",
        _pair(row.encode_by_zlib1, row.decode_by_zlib1),
        _pair(row.encode_by_zstd1, row.decode_by_zstd1),
        str(row.rounds),
    ]


def _pair(encode: float | None, decode: float | None) -> str:
    return "–" if encode is None or decode is None else f"{encode:.2f} / {decode:.2f}"


def _style(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the style of a codec's points: equal with own and static tables, but hollow for static ones."""
    from matplotlib import colormaps

    families = list(dict.fromkeys(name.removesuffix(STATIC) for name in labels))
    number = families.index(label.removesuffix(STATIC))
    colour = colormaps["tab20"](2 * number % 20 + number // 10 % 2)
    marker = MARKERS[number % len(MARKERS)]
    filled = "none" if label.endswith(STATIC) else colour
    return {"label": label, "color": colour, "marker": marker, "markerfacecolor": filled, "markersize": 8}


def _few(value: float, position: float) -> str:
    """Label 2 and 5 of each decade besides its beginning."""
    leading = f"{value:e}"[0]
    return f"{value:,.9g}" if leading in "25" else ""
