"""`splitlearn export`: from checkpoint to file."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from splitlearn.deploy.bottleneck_file import export_bottleneck
from splitlearn.models import SplitModel
from splitlearn.tasks import load_task


def export_command(ckpt_path: Path, out: Path, results: Path | None) -> None:
    """Write `out/bottleneck.safetensors` from a checkpoint and print what it holds.

    Args:
        ckpt_path: checkpoint that `splitlearn fit` left.
        out: folder, made if absent.
        results: results.json of a test run, whose `test/…` values go into the manifest.

    Raises:
        FileNotFoundError: if checkpoint or results are absent.
        ValueError: if the checkpoint holds no split model, or the results are not those of a test.
    """
    model = load_task(ckpt_path).model
    if not isinstance(model, SplitModel):
        raise ValueError(f"{ckpt_path} holds a {type(model).__name__}, which has no bottleneck to export")
    path = export_bottleneck(model, out / "bottleneck.safetensors", _metrics(results))
    parameters = sum(p.numel() for p in model.bottlenecks.parameters())
    Console().print(f"{path}: {parameters:,} parameters at {model.net.at}, {path.stat().st_size:,} bytes")


def _metrics(results: Path | None) -> dict[str, float]:
    if results is None:
        return {}
    if not results.is_file():
        raise FileNotFoundError(f"no results at {results}; splitlearn test leaves results.json in its run folder")
    metrics = {k: v for k, v in json.loads(results.read_text()).items() if k.startswith("test/")}
    if not metrics:
        raise ValueError(f"{results} holds no test metrics; give the results.json of splitlearn test")
    return metrics
