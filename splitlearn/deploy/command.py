"""`splitlearn export`: from checkpoint to file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from splitlearn.deploy.bottleneck_file import export_bottleneck, export_network
from splitlearn.deploy.early_exit_file import export_early_exit
from splitlearn.deploy.record import write_record
from splitlearn.models import EarlyExitModel, InputModel, SplitModel
from splitlearn.tasks import DetectorTask, DistillationTask, load_task
from splitlearn.tasks.loading import CONFIG_KEY, read_checkpoint
from splitlearn.tasks.results import read_results


def export_command(
    ckpt_path: Path, out: Path, results: Path | None, licence: str, config: Mapping[str, Any] | None = None
) -> None:
    """Write what a checkpoint trained, a bottleneck or a network, and a record of the same name, `.json`.

    The file is `out/bottleneck.safetensors`, `out/early_exit.safetensors`, a fine-tuned or trained
    `out/network.safetensors`, or `out/student.safetensors`, the modules that a distillation has trained.

    Args:
        ckpt_path: checkpoint that `splitlearn fit` left.
        out: folder, made if absent.
        results: results.json of a test run, whose `test/…` values go into file and record.
        licence: licence of the weights, for the record.
        config: settings of the run that wrote the checkpoint; by default those that it holds, if they name no classes
            but splitlearn's and torch's.

    Raises:
        FileNotFoundError: if checkpoint or results are absent.
        UntrustedError: if there is no config, and that of the checkpoint names other classes.
        ValueError: if the checkpoint holds nothing to export, or the results are not those of a test.
    """
    task, metrics = load_task(ckpt_path, config and config["model"]), _metrics(results)
    model = task.get_submodule("model")
    trained: nn.Module = model
    if isinstance(task, DistillationTask) and not isinstance(model, SplitModel):
        path = export_network(model, out / "student.safetensors", metrics, task.trains)
        trained = nn.ModuleList(model.get_submodule(name) for name in task.trains)
    elif isinstance(task, DetectorTask):
        path = export_network(model, out / "network.safetensors", metrics)
    elif isinstance(model, EarlyExitModel):
        path = export_early_exit(model, out / "early_exit.safetensors", metrics)
    elif isinstance(model, SplitModel):
        path, trained = export_bottleneck(model, out / "bottleneck.safetensors", metrics), model.bottlenecks
    elif isinstance(model, InputModel):
        path, trained = export_network(model.network, out / "network.safetensors", metrics), model.network
    else:
        raise ValueError(f"{ckpt_path} holds a {type(model).__name__}, of which nothing can be exported")
    record = write_record(path, metrics, config or read_checkpoint(ckpt_path)[CONFIG_KEY], licence)
    parameters = sum(p.numel() for p in trained.parameters())
    Console().print(
        f"{path}: {parameters:,} parameters, {path.stat().st_size:,} bytes; record: {record}", soft_wrap=True
    )


def _metrics(results: Path | None) -> dict[str, float]:
    if results is None:
        return {}
    if not results.is_file():
        raise FileNotFoundError(f"no results at {results}; splitlearn test leaves results.json in its run folder")
    metrics = {k: v for k, v in read_results(results).items() if k.startswith("test/")}
    if not metrics:
        raise ValueError(f"{results} holds no test metrics; give the results.json of splitlearn test")
    return metrics
