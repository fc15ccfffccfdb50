"""Weights that a config names and a checkpoint replaces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

from splitlearn.config.build import flat_settings
from splitlearn.models import frozen_tensors
from splitlearn.tasks import CheckpointError
from splitlearn.tasks.loading import CONFIG_KEY, check_architecture


def check_named_weights(
    task: LightningModule, settings: Mapping[str, Any], content: Mapping[str, Any], path: str | Path
) -> None:
    """Refuse a checkpoint of a frozen network that is not the one whose weights a config names; else say what goes.

    Args:
        task: as the config builds it.
        settings: the config's section `model`.
        content: of the checkpoint.
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: if the frozen network would silently become another one, or the checkpoint does not fit at all.
    """
    flat = flat_settings({"model": settings})
    named = {name: value for name, value in flat.items() if name.endswith("weights") and isinstance(value, str)}
    if not named:
        return
    check_architecture(task, content, path)
    state = content["state_dict"]
    frozen = frozen_tensors(task)
    for name, tensor in frozen.items():
        if name in state and not torch.equal(tensor.detach().cpu(), state[name].to(tensor.dtype)):
            raise CheckpointError(
                f"the frozen network in {path} has other weights than {', '.join(named.values())}, which the config "
                "names and which it would replace: name those that it was trained with, or leave --ckpt_path out"
            )
    told = content.get(CONFIG_KEY)
    trained_with = flat_settings(told) if isinstance(told, Mapping) else {}
    for name, value in named.items():
        before = trained_with.get(name)
        if not frozen and isinstance(before, str) and before != value:
            print(f"warning: {path} brings all weights, so that {name} {value} has no effect", file=sys.stderr)
