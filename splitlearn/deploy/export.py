"""Export of the trained part of any model into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import NamedTuple

from torch import nn

from splitlearn.deploy.bottleneck_file import ExportError, export_bottleneck, export_network
from splitlearn.deploy.early_exit_file import export_early_exit
from splitlearn.models import EarlyExitModel, GainModel, InputModel, SplitModel


class Exported(NamedTuple):
    """An exported file and the part of the model in it."""

    path: Path
    part: nn.Module


class NothingToExportError(ExportError):
    """The model has no part to export."""


@singledispatch
def export_model(model: nn.Module, folder: Path, metrics: Mapping[str, float]) -> Exported:
    """Write the trained part of a model into a folder, as one safetensors file.

    The file is bottleneck.safetensors for a `SplitModel`, network.safetensors for an `InputModel`, and
    early_exit.safetensors (network and exits) for an `EarlyExitModel`. `export_model.register` adds other models
    (`functools.singledispatch`).

    Args:
        model: a trained model.
        folder: folder for the file; created if missing.
        metrics: metrics of a test, which the file's metadata will contain.

    Raises:
        NothingToExportError: if this kind of model has no export.
        ValueError: if the model cannot be rebuilt from a file; `export_bottleneck` lists the reasons.
    """
    raise NothingToExportError(f"nothing of a {type(model).__name__} can be exported")


@export_model.register
def _(model: SplitModel, folder: Path, metrics: Mapping[str, float]) -> Exported:
    return Exported(export_bottleneck(model, folder / "bottleneck.safetensors", metrics), model.coder.bottlenecks)


@export_model.register
def _(model: EarlyExitModel, folder: Path, metrics: Mapping[str, float]) -> Exported:
    return Exported(export_early_exit(model, folder / "early_exit.safetensors", metrics), model)


@export_model.register
def _(model: InputModel, folder: Path, metrics: Mapping[str, float]) -> Exported:
    return Exported(export_network(model.network, folder / "network.safetensors", metrics), model.network)


@export_model.register
def _(model: GainModel, folder: Path, metrics: Mapping[str, float]) -> Exported:
    raise NothingToExportError(
        "a GainModel has many rates, each with metrics of its own: write them with splitlearn bank --ckpt_path FILE, "
        "or with export_gains in Python"
    )
