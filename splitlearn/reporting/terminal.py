"""Tables and numbers for terminals of any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

WIDEST = 200


def print_whole(*tables: RenderableType) -> None:
    """Print tables in their full width of at most 200 columns; narrow terminals wrap lines, but no word is broken."""
    console = Console()
    options = console.options.update_width(WIDEST)
    console.width = max(console.width, *(console.measure(table, options=options).maximum for table in tables))
    console.print(*tables)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text; narrow terminals wrap lines but cut nothing off.

    The first cell of a row is left empty if it equals the one above.
    """
    table, console, last = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), Console(), ""
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for first, *others in rows:
        table.add_row("" if first == last else first, *others)
        last = first
    console.print(f"\n{title}", soft_wrap=True, highlight=False)
    print_whole(table)


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number as text with `digits` decimals; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """Return a share, 0…1, in per cent as text without the sign."""
    return f"{100 * value:.1f}"
