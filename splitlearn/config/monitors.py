"""What watches a metric watches it the right way round."""

from __future__ import annotations

from typing import Any

from splitlearn.config.messages import UsageError
from splitlearn.tasks.schedules import better_mode


def check_monitors(trainer: Any, checkpoint: Any = None) -> None:
    """Refuse checkpoints that would keep the worst epoch, and callbacks that would take worse for better.

    Args:
        trainer: its settings.
        checkpoint: settings of ModelCheckpoint.

    Raises:
        UsageError: if there are such.
    """
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
