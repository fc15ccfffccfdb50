"""Check that callbacks monitor metrics with the right mode (min or max)."""

from __future__ import annotations

from typing import Any

from splitlearn.config.messages import UsageError
from splitlearn.tasks.schedules import better_mode


def check_monitors(trainer: Any, checkpoint: Any = None) -> None:
    """Raise UsageError if checkpoints or a callback of the trainer's settings monitor with the wrong mode."""
    callbacks = trainer.get("callbacks") or []
    watchers = [("the checkpoint", "--checkpoint.mode {}", checkpoint)] if checkpoint is not None else []
    for each in callbacks if isinstance(callbacks, list) else [callbacks]:
        watchers.append((each.class_path.rpartition(".")[2], "its mode to {}", each.get("init_args") or {}))
    for name, remedy, settings in watchers:
        monitor, mode = settings.get("monitor"), settings.get("mode")
        right = better_mode(monitor) if isinstance(monitor, str) else None
        if right and mode in ("min", "max") and mode != right:
            found = {"min": "lowest", "max": "highest"}[mode]
            raise UsageError(f"{name} looks for the {found} {monitor}, which is the worst: set {remedy.format(right)}")
