"""`splitlearn bank`: from a sweep's exports to one file of rates, and a config that tests it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from splitlearn.config.export_config import settings_to_test, write_config
from splitlearn.config.loading import task_from
from splitlearn.deploy.bank import export_bank, rate_beside, read_bank
from splitlearn.deploy.record import write_record
from splitlearn.models import VariableRateModel
from splitlearn.reporting.terminal import print_whole

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
    try:
        settings = settings_to_test(config, "splitlearn.deploy.load_bank", out, f"bank_{out.stem}")
    except ValueError as error:
        raise ValueError(f"{error}: make the bank in Python, with splitlearn.deploy.export_bank") from error
    export_bank(exports, out, score)
    model = cast("VariableRateModel", task_from(settings["model"]).model)
    _, kept = read_bank(out)
    measured = [
        {k: v for k, v in manifest["metrics"].items() if k.startswith(("val/", "test/"))} for manifest, _ in kept
    ]
    metrics = {f"rate_{i}/{name}": value for i, told in enumerate(measured) for name, value in told.items()}
    record, launch = write_record(out, metrics, origin, licence), out.with_suffix(".yaml")
    write_config(launch, HEADER.format(count=len(kept), path=launch, last=len(kept) - 1), settings)
    console = Console()
    print_whole(_table(model, score, measured))
    console.print(f"{out} written, {out.stat().st_size:,} bytes; record: {record}; config: {launch}", soft_wrap=True)


def _table(model: VariableRateModel, score: str, measured: Sequence[Mapping[str, float]]) -> Table:
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
