"""`splitlearn calibrate`: from a few images to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from splitlearn.config.export_config import settings_to_test, write_config
from splitlearn.deploy.bottleneck_file import export_bottleneck
from splitlearn.deploy.calibration import Calibration, CalibrationSettings, calibrate
from splitlearn.models import SplitModel
from splitlearn.reporting.terminal import print_whole

HEADER = """# Calibrated quantizers and code tables, written by splitlearn calibrate.
# Launch:  splitlearn test --config configs/trainer.yaml --config {path}
"""


def calibrate_command(
    model: SplitModel, images: Tensor, settings: CalibrationSettings, out: Path, config: Mapping[str, Any]
) -> None:
    """Calibrate, print what was tried, and write the calibrated model as an export, beside it a config that tests it.

    Args:
        model: in eval mode.
        images: float `(B, 3, H, W)` in [0, 1].
        settings: levels, limits, codec and the like.
        out: safetensors file; the config has its name and ends in .yaml.
        config: settings that describe the model, a task and data.

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
    print_whole(_table(found))
    for quantizer in found.model.coder.quantizers:
        console.print(str(quantizer), soft_wrap=True)
    size = f"{found.model.table_bytes:,} bytes of levels and tables, sent once"
    console.print(f"{out} written ({size}); {_config_beside(out, config)}", soft_wrap=True)


def _config_beside(out: Path, config: Mapping[str, Any]) -> str:
    """Write a config that tests an export; return what to tell of it."""
    try:
        found = settings_to_test(config, "splitlearn.deploy.load_bottleneck", out, f"calibrated_{out.stem}")
    except ValueError as error:
        return f"no config that tests it, since {error}: configs/cohen2020/resnet32_layer2.yaml is an example"
    launch = out.with_suffix(".yaml")
    write_config(launch, HEADER.format(path=launch), found)
    return f"config that tests it: {launch}"


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
