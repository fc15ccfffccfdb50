"""Tables in terminals of any width."""

from __future__ import annotations

from rich.console import Console, RenderableType

WIDEST = 200


def print_whole(*tables: RenderableType) -> None:
    """Print tables as wide as they are, 200 columns at most: narrow terminals wrap lines, but no word is broken."""
    console = Console()
    options = console.options.update_width(WIDEST)
    console.width = max(console.width, *(console.measure(table, options=options).maximum for table in tables))
    console.print(*tables)
