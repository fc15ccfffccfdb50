"""Plans as table, CSV file and plot; latencies as a table."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from splitlearn.reporting.latencies import latency_table
from splitlearn.reporting.plan import plan_table, write_plan
from splitlearn.runtime.planner import LinkPlan, make_plan
from tests.runtime.latency_profiles import profile

PLAN = make_plan(profile(10.0), profile(), LinkPlan(1e5, 20.0), deadline_ms=150.0)


def text(table: Table) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in capture.get().splitlines() if "│" in line]


def test_a_table_tells_what_is_known_and_what_meets_the_deadline() -> None:
    rows = {row[0]: row[1:] for row in text(plan_table(PLAN.choices, PLAN.best, "plan", PLAN.deadline_ms))}
    assert rows["all on the device"] == ["400.00", "0.00", "0.00", "0.00", "0.00", "400.00", "0", "–", "no"]
    assert rows["cut at layer2, rate 0"] == ["80.00", "10.00", "28.00", "2.00", "4.00", "124.00", "41", "0.8000", "yes"]
    assert rows["cut at layer1"] == ["100.00", "0.00", "?", "0.00", "30.00", "?", "?", "–", "?"]
    without = text(plan_table(PLAN.choices, PLAN.best, "plan", None))
    assert {len(row) for row in without} == {9}


def test_files(tmp_path: Path) -> None:
    write_plan(PLAN.choices, "plan", 150.0, tmp_path / "sub")
    with (tmp_path / "sub" / "plan.csv").open() as file:
        rows = {row["choice"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(PLAN.choices)
    assert float(rows["cut at layer2, rate 1"]["total_ms"]) == 196
    assert rows["cut at layer2, rate 1"]["in_time"] == "False"
    assert rows["cut at layer3"]["total_ms"] == rows["cut at layer3"]["in_time"] == ""
    with Image.open(tmp_path / "sub" / "plan.png") as picture:
        assert min(picture.size) > 300


def test_latencies_of_modules() -> None:
    rows = text(latency_table(profile()))
    assert ["layer2", "8×4×4", "10.000", "20.000", "20.000", "40.000", "20.000", "40.000"] in rows
