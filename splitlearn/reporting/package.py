"""Table of a device package for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

RESULTS = {
    "symbols": ("symbols compared", ","),
    "equal_symbols": ("symbols equal to torch's", ".4%"),
    "greatest_difference": ("greatest difference of a latent", ".3g"),
    "equal_payloads": ("payloads equal byte for byte", ".1%"),
    "equal_exits": ("same exit and class, or both send", ".1%"),
    "equal_rates": ("same rate by default", ".1%"),
    "equal_answers": ("same answers, through payloads", ".2%"),
    "equal_pictures": ("same answers, to pictures", ".2%"),
}


def package_table(folder: Path, check: Mapping[str, Any]) -> Table:
    """Return a table of the files of a package and the results of its check on real images.

    What was not compared is left out.

    Args:
        folder: folder of the package.
        check: results of the check, from `PackageCheck.record`.
    """
    halves = f"device in {check['device']}, edge in {check['edge']}"
    table = Table(title=f"{folder}: {halves}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for path in sorted(folder.iterdir()):
        table.add_row(path.name, f"{path.stat().st_size:,} bytes")
    table.add_section()
    if check["images"]:
        table.add_row("images compared", f"{check['images']:,}")
    for name, (label, style) in RESULTS.items():
        if check[name] is not None:  # None: not compared
            table.add_row(label, format(check[name], style))
    return table
