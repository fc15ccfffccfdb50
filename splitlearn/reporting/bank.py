"""Table of a bank of rates for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from splitlearn.deploy.bank import rate_beside
from splitlearn.models import VariableRateModel


def bank_table(model: VariableRateModel, score: str, measured: Sequence[Mapping[str, float]]) -> Table:
    """Return a table with one row per rate: its metrics, and the bytes that a device loads to switch to it.

    `score` is the name of the metric by which rates are chosen; `measured` has the metrics of each rate.
    """
    count = len(model.points)
    title = f"{count} rates of one network of {model.backbone_bytes:,} bytes"
    caption = f"a payload names its rate in {(count - 1).bit_length()} bits of its first byte and grows by none"
    table = Table(title=title, caption=caption)
    test_score = "test/" + score.partition("/")[2]
    others = () if score == test_score else (test_score, rate_beside(test_score))
    tested = [name for name in others if any(name in told for told in measured)]
    for column in ("rate", score, rate_beside(score), *tested, "bytes that a switch loads", "of the network"):
        table.add_column(column, justify="right")
    for i, (point, size) in enumerate(zip(model.points, model.switch_bytes, strict=True)):
        share = f"{100 * size / model.backbone_bytes:.2f} %"
        cells = [f"{measured[i][name]:,.4g}" if name in measured[i] else "–" for name in tested]
        table.add_row(str(i), f"{point.score:.4f}", f"{point.bytes_per_image:,.1f}", *cells, f"{size:,}", share)
    return table
