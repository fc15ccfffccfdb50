"""`splitlearn bank`: from a sweep's exports to one file of rates, and a config that tests it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from rich.console import Console
from rich.table import Table

from splitlearn.deploy.bank import export_bank, read_bank
from splitlearn.deploy.record import write_record
from splitlearn.files import whole_file
from splitlearn.models import VariableRateModel
from splitlearn.tasks import task_from

TRAINING = ("rate_loss", "rate_weight", "distillation", "distillation_weight", "optimizer", "lr_scheduler")
HEADER = """# A bank of {count} rates, written by splitlearn bank.
# Launch:  splitlearn test --config configs/trainer.yaml --config {path} --model.model.rate 0
# Rates 0 … {last} by rising bytes; in place of a rate, --model.model.budget 64 allows no payload more bytes than that.
"""


def bank_command(
    exports: Sequence[Path], out: Path, score: str, config: Mapping[str, Any], origin: Any, licence: str
) -> None:
    """Write a bank, a record and a config that tests it, all beside each other; print what a switch of rates costs.

    Args:
        exports: one to eight files that `export_bottleneck` wrote.
        out: safetensors file; record and config have its name and end in .json and .yaml.
        score: metric that the rates are weighed by.
        config: settings of a run of `splitlearn fit` that made one of them.
        origin: what the record says of where they come from.
        licence: of the weights, for the record.

    Raises:
        FileNotFoundError: if an export is absent.
        ValueError: if the exports make no bank, see `export_bank`, or the config names no network.
    """
    settings = _settings(config, out)
    export_bank(exports, out, score)
    model = cast("VariableRateModel", task_from(settings["model"]).model)
    _, kept = read_bank(out)
    measured = [{k: v for k, v in manifest["metrics"].items() if k.startswith("test/")} for manifest, _ in kept]
    metrics = {f"rate_{i}/{name}": value for i, told in enumerate(measured) for name, value in told.items()}
    record, launch = write_record(out, metrics, origin, licence), out.with_suffix(".yaml")
    with whole_file(launch) as temporary:
        header = HEADER.format(count=len(kept), path=launch, last=len(kept) - 1)
        temporary.write_text(header + yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=120))
    console = Console()
    console.print(_table(model, score))
    console.print(f"{out} written, {out.stat().st_size:,} bytes; record: {record}; config: {launch}", soft_wrap=True)


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what of a config a test needs, with the bank in place of its model."""
    try:
        task = config["model"]["init_args"]
        backbone = task["model"]["init_args"]["net"]["init_args"]["model"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            "the config names no network at model.model.net.model, as splitlearn.models.split takes it: make the bank "
            "in Python, with splitlearn.deploy.export_bank"
        ) from error
    loader = {"class_path": "splitlearn.deploy.load_bank", "init_args": {"path": str(path), "backbone": backbone}}
    arguments = {name: value for name, value in task.items() if name not in TRAINING} | {"model": loader}
    return {
        "trainer": {"logger": {"init_args": {"name": f"bank_{path.stem}"}}},
        "model": {"class_path": config["model"]["class_path"], "init_args": arguments},
        "data": config["data"],
    }


def _table(model: VariableRateModel, score: str) -> Table:
    count = len(model.points)
    title = f"{count} rates of one network of {model.backbone_bytes:,} bytes"
    caption = f"a payload names its rate in {(count - 1).bit_length()} bits of its first byte and grows by none"
    table = Table(title=title, caption=caption)
    for column in ("rate", score, "bytes/image", "bytes that a switch loads", "of the network"):
        table.add_column(column, justify="right")
    for i, (point, size) in enumerate(zip(model.points, model.switch_bytes, strict=True)):
        share = f"{100 * size / model.backbone_bytes:.2f} %"
        table.add_row(str(i), f"{point.score:.4f}", f"{point.bytes_per_image:,.1f}", f"{size:,}", share)
    return table
