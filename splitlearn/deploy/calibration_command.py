"""`splitlearn calibrate`: from a few images to a file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from splitlearn.deploy.bottleneck_file import export_bottleneck
from splitlearn.deploy.calibration import Calibration, CalibrationSettings, calibrate
from splitlearn.models import SplitModel


def calibrate_command(model: SplitModel, images: Tensor, settings: CalibrationSettings, out: Path) -> None:
    """Calibrate, print what was tried, and write the calibrated model as an export.

    Args:
        model: in eval mode.
        images: float `(B, 3, H, W)` in [0, 1].
        settings: levels, limits, codec and the like.
        out: safetensors file.

    Raises:
        ValueError: if these images calibrate nothing, see `calibrate`.
    """
    found = calibrate(model, images, settings)
    metrics = {
        "calibration/images": found.images,
        "calibration/stretch": found.chosen.stretch,
        "calibration/distance": found.chosen.distance,
        "calibration/bits_per_element": found.chosen.bits_per_element,
        "calibration/bytes_per_image": found.chosen.bytes_per_image,
    }
    export_bottleneck(found.model, out, metrics)
    console = Console()
    console.print(_table(found))
    for quantizer in found.model.quantizers:
        console.print(str(quantizer), soft_wrap=True)
    size = f"{found.model.table_bytes:,} bytes of levels and tables, sent once"
    console.print(f"{out} written ({size}): test it as configs/cohen2020 do", soft_wrap=True)


def _table(found: Calibration) -> Table:
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
