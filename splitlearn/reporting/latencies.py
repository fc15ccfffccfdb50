"""Measured latencies as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from splitlearn.latencies import Latency, LatencyProfile


def latency_table(profile: LatencyProfile) -> Table:
    """Return one row for each module of a profile: its own time, and those of head and tail of a cut behind it."""
    table = Table(title=f"{profile.network}, {profile.conditions}")
    table.add_column("module", no_wrap=True)
    for column in ("output", "own\nms, p50", "\np95", "head\nms, p50", "\np95", "tail\nms, p50", "\np95"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in profile.modules:
        shape = "×".join(map(str, each.output_shape))
        table.add_row(each.name, shape, *_cells(each.own), *_cells(each.until), *_cells(each.after))
    return table


def _cells(latency: Latency) -> tuple[str, str]:
    return f"{latency.p50_ms:,.3f}", f"{latency.p95_ms:,.3f}"
