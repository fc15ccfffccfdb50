"""Table of a calibration for the terminal."""

from __future__ import annotations

from rich.table import Table

from splitlearn.deploy.calibration import Calibration


def calibration_table(found: Calibration) -> Table:
    """Return a table with one row per stretch factor of the clipping limits; the chosen one is marked."""
    table = Table(title=f"Calibration on {found.images} images")
    for column in ("limits ×", "distance of predictions", "bytes/image", "bits/element", "cost"):
        table.add_column(column, justify="right")
    for trial in found.trials:
        mark = " ←" if trial is found.chosen else ""
        table.add_row(
            f"{trial.stretch:g}",
            f"{trial.distance:.4g}",
            f"{trial.bytes_per_image:,.1f}",
            f"{trial.bits_per_element:.3f}",
            f"{trial.cost:.4g}{mark}",
        )
    return table
