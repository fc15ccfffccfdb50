"""Table of a device package for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table


def package_table(folder: Path, check: Mapping[str, Any]) -> Table:
    """Return a table of the files of a package and the results of its check on real images.

    Args:
        folder: folder of the package.
        check: record of the check.
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
        table.add_row("symbols equal to torch's", f"{check['equal_symbols']:.4%} of {check['symbols']:,}")
        table.add_row("greatest difference of a latent", f"{check['greatest_difference']:.3g}")
        table.add_row("payloads equal byte for byte", f"{check['equal_payloads']:.1%}")
        table.add_row("same decision to exit or to send", f"{check['equal_exits']:.1%}")
        table.add_row("same answers, through payloads", f"{check['equal_answers']:.2%}")
    return table
