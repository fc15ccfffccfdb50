"""Markdown tables: alignment, escapes, rows of the right length."""

from __future__ import annotations

import pytest

from splitlearn.reporting.markdown import markdown_table


def test_the_last_alignment_holds_for_all_further_columns() -> None:
    table = markdown_table(["method", "bytes", "bits"], [["raw", 3, 24.0], ["RANS", 1, 8.5]])
    assert table == "| method | bytes | bits |\n|---|--:|--:|\n| raw | 3 | 24.0 |\n| RANS | 1 | 8.5 |\n"
    assert markdown_table(["a", "b", "c", "d"], [], "rlr").splitlines()[1] == "|--:|---|--:|--:|"
    assert markdown_table(["a"], [], "llr").splitlines()[1] == "|---|"


def test_vertical_bars_stay_in_their_cell() -> None:
    assert markdown_table(["a"], [["x|y"]]).splitlines()[2] == r"| x\|y |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, but there are 2 headings"):
        markdown_table(["a", "b"], [["x"]])
