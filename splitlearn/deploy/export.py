"""What can be exported of a model, and into which file of a folder."""

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
    """A file and the part of a model that it holds."""

    path: Path
    part: nn.Module


class NothingToExportError(ExportError):
    """A model that has no part of its own to export."""


@singledispatch
def export_model(model: nn.Module, folder: Path, metrics: Mapping[str, float]) -> Exported:
    """Write what a model has trained into a folder: its bottlenecks, its network, or network and exits.

    A model of another kind is exported by a function that is registered with this one (`functools.singledispatch`).

    Args:
        model: a trained model.
        folder: made if absent; the file in it is called after what it holds.
        metrics: what a test measured, for whoever reads the file.

    Raises:
        NothingToExportError: if nothing of such a model can be exported.
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
