"""Export of the trained part of any model into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import NamedTuple

from torch import nn

from splitlearn.deploy.bottleneck_file import ExportError, export_bottleneck, export_network
from splitlearn.deploy.early_exit_file import export_early_exit
from splitlearn.models import EarlyExitModel, InputModel, SplitModel


class Exported(NamedTuple):
    """An exported file and the part of the model in it."""

    path: Path
    part: nn.Module


class NothingToExportError(ExportError):
    """The model has no part to export."""


@singledispatch
def export_model(model: nn.Module, folder: Path, metrics: Mapping[str, float]) -> Exported:
    """Write the trained part of a model into a folder: bottlenecks, network, or network and exits.

    For other kinds of models, register a function (`functools.singledispatch`).

    Args:
        model: a trained model.
        folder: created if missing; the file in it is named after its content.
        metrics: metrics of a test, for the file's metadata.

    Raises:
        NothingToExportError: if this kind of model has no export.
        ValueError: as `export_bottleneck`.
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
