"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "--:"}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]], align: str = "lr") -> str:
    """Return a Markdown table that ends with a line break.

    Args:
        headings: headings of the columns; may be empty.
        rows: cells of each row, converted by `str`; vertical bars are escaped.
        align: "l" or "r" for each column; the last letter also holds for all further columns.

    Raises:
        ValueError: if the number of cells in a row differs from the number of headings.
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
