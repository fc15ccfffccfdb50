"""Weights that a config names and a checkpoint replaces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

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
    named = _weights(settings)
    if not named:
        return
    check_architecture(task, content, path)
    state = content["state_dict"]
    frozen = frozen_tensors(task)
    for name, tensor in frozen.items():
        if name in state and not torch.equal(tensor.detach().cpu(), state[name].to(tensor.dtype)):
            told = ", ".join(named.values())
            raise CheckpointError(
                f"the frozen network in {path} has other weights than {told}, which the config names and which it "
                "would replace: name those that it was trained with, or leave --ckpt_path out"
            )
    for name, value in named.items():
        before = _told(content.get(CONFIG_KEY), name)
        if not frozen and isinstance(before, str) and before != value:
            print(f"warning: {path} brings all weights, so that {name} {value} has no effect", file=sys.stderr)


def _weights(settings: Any, path: str = "model") -> dict[str, str]:
    """Return the names of weights in a config, by the path of the setting."""
    found: dict[str, str] = {}
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        inside = path if name == "init_args" else f"{path}.{name}"
        if str(name).endswith("weights") and isinstance(value, str):
            found[inside] = value
        found |= _weights(value, inside)
    return found


def _told(config: Any, path: str) -> Any:
    """Return what a config says at the path of a setting; None if it says nothing there."""
    for name in path.split("."):
        inner = config.get("init_args") if isinstance(config, Mapping) else None
        outer = config if isinstance(config, Mapping) and name in config else inner
        config = outer.get(name) if isinstance(outer, Mapping) else None
    return config
