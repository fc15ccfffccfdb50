"""Tables stay whole in narrow terminals."""

from __future__ import annotations

import pytest
from rich.table import Table

from splitlearn.reporting.terminal import print_whole


@pytest.mark.parametrize("columns", ["20", "40", "60", "300"])
def test_no_word_of_a_header_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    headers = ["trial", "test/bits_per_pixel", "test/accuracy", "bytes that a switch loads"]
    table = Table(title="rates of one network")
    for header in headers:
        table.add_column(header, justify="right", overflow="fold")
    table.add_row("12", "0.3415926535", "0.8912", "1,234,567")
    print_whole(table, table)
    printed = capsys.readouterr().out.splitlines()
    assert sum(all(header in line for header in headers) for line in printed) == 2
    assert sum("0.3415926535" in line and "1,234,567" in line for line in printed) == 2
