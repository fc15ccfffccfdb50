"""CSV files of rows, of records and of empirical CDFs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from splitlearn.analysis.distribution import SHARES, Distribution
from splitlearn.files import whole_file

LONG = ("quantiles",)  # fields that have a file of their own


def write_csv(path: str | Path, headings: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file.

    Args:
        path: path of the file; its folder is made if absent.
        headings: headings of the columns.
        rows: cells of each row; None is written as an empty cell.
    """
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([headings, *rows])


def write_records(path: str | Path, results: Mapping[str, Sequence[Any]], about: str = "source") -> None:
    """Write records as CSV, one row each, with the name of their source in the first column; quantiles are omitted.

    Args:
        path: path of the file; its folder is made if absent.
        results: records (dataclasses) of one class, by the name of their source.
        about: heading of the first column.
    """
    rows = [{about: source, **asdict(record)} for source, records in results.items() for record in records]
    names = [name for name in (rows[0] if rows else [about]) if name not in LONG]
    write_csv(path, names, ([row[name] for name in names] for row in rows))


def write_quantiles(path: str | Path, results: Mapping[str, Sequence[Distribution]]) -> None:
    """Write quantiles as CSV: one row for each share of the values, one column for each distribution.

    Args:
        path: path of the file; its folder is made if absent.
        results: distributions by the name of their source.
    """
    columns = {f"{source}: {d.name}": d.quantiles for source, found in results.items() for d in found}
    rows = zip(SHARES, *columns.values(), strict=True)
    write_csv(path, ["share", *columns], ([share, *(f"{value:.6g}" for value in values)] for share, *values in rows))
