"""Comparison of a checkpoint with the weights files that a config names."""

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
    """Compare a checkpoint with the weights files that a config names, before the checkpoint is loaded.

    Frozen weights must be equal in both. If nothing is frozen, the checkpoint replaces all weights: a warning then
    names the weights files that the training did not use, because they have no effect.

    Args:
        task: the task, built from the config with its weights files.
        settings: the config's section `model`.
        content: content of the checkpoint.
        path: path of the checkpoint.

    Raises:
        CheckpointError: if frozen weights differ, or the checkpoint has another architecture; it names the path.
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
                f"the frozen network in {path} has other weights than {', '.join(named.values())} in the config, and "
                "would replace them: set the weights of its training in the config, or leave --ckpt_path out"
            )
    told = content.get(CONFIG_KEY)
    trained_with = flat_settings(told) if isinstance(told, Mapping) else {}
    for name, value in named.items():
        before = trained_with.get(name)
        if not frozen and isinstance(before, str) and before != value:
            print(f"warning: {path} contains all weights, so {name} {value} has no effect", file=sys.stderr)
