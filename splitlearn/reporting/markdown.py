"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "--:"}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]], align: str = "lr") -> str:
    """Return a Markdown table, with a line break at its end.

    Args:
        headings: of the columns; empty ones are allowed.
        rows: cells, written as `str` does; vertical bars in them are escaped.
        align: "l" or "r" for each column, the last one also for all further columns.

    Raises:
        ValueError: if a row has another number of cells than there are headings.
    """
    rules = [RULES[each] for each in align.ljust(len(headings), align[-1])[: len(headings)]]
    lines = [_line(headings), f"|{'|'.join(rules)}|"]
    for row in rows:
        if len(row) != len(headings):
            raise ValueError(f"a row has {len(row)} cells, but there are {len(headings)} headings: {row}")
        lines.append(_line(row))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
