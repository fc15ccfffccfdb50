"""Analyses of features as CSV files and tables for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from splitlearn.analysis.distribution import SHARES, Distribution
from splitlearn.files import whole_file
from splitlearn.reporting.terminal import print_whole

LONG = ("quantiles",)  # fields that have a file of their own


def write_records(path: str | Path, results: Mapping[str, Sequence[Any]]) -> None:
    """Write records as CSV, one row each, the name of what they are about in front; quantiles are left out.

    Args:
        path: of the file; its folder is made if absent.
        results: records (dataclasses) of one kind, by what they are about.
    """
    rows = [{"source": source, **_fields(record)} for source, records in results.items() for record in records]
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["source"])
        writer.writeheader()
        writer.writerows(rows)


def write_quantiles(path: str | Path, results: Mapping[str, Sequence[Distribution]]) -> None:
    """Write the empirical CDFs as CSV: one row for each share, one column for each distribution.

    Args:
        path: of the file; its folder is made if absent.
        results: distributions by what they are about.
    """
    columns = {f"{source}: {d.name}": d.quantiles for source, found in results.items() for d in found}
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["share", *columns])
        for share, *values in zip(SHARES, *columns.values(), strict=True):
            table.writerow([share, *(f"{value:.6g}" for value in values)])


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whole, its first column to the left: a narrow terminal wraps its lines, but loses nothing.

    Args:
        title: stands above it.
        columns: headings.
        rows: cells; equal first cells stand only once.
    """
    table, console, last = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), Console(), ""
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for first, *others in rows:
        table.add_row("" if first == last else first, *others)
        last = first
    console.print(f"\n{title}", soft_wrap=True, highlight=False)
    print_whole(table)


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure for a table; a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}"


def _fields(record: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name not in LONG}
