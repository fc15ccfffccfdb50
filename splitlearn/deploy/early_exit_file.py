"""Export of a network with early exits: one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from splitlearn.models import EarlyExitModel
from splitlearn.models.coder import codec_name
from splitlearn.models.tensor_file import save_tensors


def export_early_exit(model: EarlyExitModel, path: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write network and exits to a safetensors file, for `weights` of an `EarlyExitModel` with any cut after its exits.

    The file also holds the static tables of the codecs, which a model with the same codecs loads.

    Args:
        model: a trained model.
        path: file to write; it appears complete or not at all.
        metrics: metrics of a test, for the metadata.

    Returns:
        The path written.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.tensors().items()}
    for number, codec in enumerate(model.coder.codecs):
        tensors |= {f"codecs.{number}.{name}": torch.from_numpy(table.copy()) for name, table in codec.tables().items()}
    about = {
        "network": model.net.name,
        "exits": json.dumps(model.exit_names),
        "codecs": json.dumps([codec_name(codec) for codec in model.coder.codecs]),
        "metrics": json.dumps(dict(metrics or {})),
    }
    save_tensors(tensors, path, about)
    return Path(path)
