"""`splitlearn codecs`: all codecs on given activations; table, JSON and CSV file, plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from splitlearn.analysis.activations import Activations
from splitlearn.analysis.codec_comparison import CodecRow, compare_codecs, package_codecs, with_static_tables
from splitlearn.codecs import Codec
from splitlearn.numpy_quantizers import Grid
from splitlearn.reporting.codec_report import LEGEND, print_codecs, processor, write_codecs


def codecs_command(
    sources: Mapping[str, Activations],
    images: int,
    rounds: int,
    out: Path,
    about: Mapping[str, Any],
    more: Mapping[str, Codec],
) -> None:
    """Compare all codecs; print a table for each source, write codecs.json, codecs.csv and codecs.png to `out`.

    Every second image is measured; static tables are learnt from the others.

    Args:
        sources: what to compare on, by name.
        images: how many to measure at most.
        rounds: how often each is coded.
        out: folder, made if absent.
        about: machine, versions, command, date: goes into the JSON file.
        more: codecs beside those of the package, by label. One that refuses a grid's levels is left out there.

    Raises:
        ValueError: if a source cannot be quantized.
    """
    results: dict[str, list[CodecRow]] = {}
    console = Console()
    for source, activations in sources.items():
        latents = activations.latents
        measured, others = list(latents[: 2 * images : 2]), latents[1 : 2 * images : 2]
        rows: list[CodecRow] = []
        for grid in activations.grids:
            for label in (k for k, c in more.items() if not _takes(c, grid)):
                console.print(f"note: {label} is left out at {grid.levels} levels, which it refuses", soft_wrap=True)
            codecs = with_static_tables(
                package_codecs() | {k: c for k, c in more.items() if _takes(c, grid)}, others, grid
            )
            rows += compare_codecs(measured, grid, codecs, rounds)
        name = f"{source}, {'×'.join(map(str, latents.shape[1:]))}"
        results[name] = rows
        numbers = f"{len(measured)} images measured, static tables learnt from {len(others)} others"
        print_codecs(rows, f"{name}: {numbers}")
    console.print(LEGEND.replace("\n", " "))
    write_codecs(results, out, "codecs", "Codecs side by side", {**about, "processor": processor()})
    console.print(f"{out / 'codecs.json'}, codecs.csv and codecs.png written", soft_wrap=True)


def _takes(codec: Codec, grid: Grid) -> bool:
    """Tell whether a codec takes arrays of a grid's alphabet."""
    try:
        codec.encode(np.zeros(1, np.uint8), grid.levels)
    except ValueError:
        return False
    return True
