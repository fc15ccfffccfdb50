"""From a checkpoint of the command line to the task that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule

from splitlearn.config.build import task_from
from splitlearn.shortage import ShortageError, brief, of_machine, shortage
from splitlearn.tasks.loading import (
    REMEDY,
    CheckpointError,
    bounded,
    config_of,
    load_weights_into,
    read_checkpoint,
)
from splitlearn.tasks.trust import check_settings


def load_task(path: str | Path, settings: Mapping[str, Any] | None = None) -> LightningModule:
    """Rebuild the task of a checkpoint that `splitlearn fit` wrote, weights and codec tables included, in eval mode.

    Args:
        path: the checkpoint.
        settings: section `model` of the config that it was trained with. By default the checkpoint's own, which may
            name no classes but splitlearn's and torch's, and the loaders of splitlearn.deploy once that is imported;
            `config_of` reads it from a checkpoint that is trusted.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        CheckpointError: if it cannot be read, was not written by the command line, or belongs to other settings.
        ShortageError: if its own settings ask for more memory than there is.
        UntrustedError: if its own settings are to be taken, and name other classes.
    """
    content = read_checkpoint(path)
    if settings is None:
        own = config_of(content, path)["model"]
        check_settings(own, path, REMEDY)
        try:
            with bounded(content["state_dict"], path):
                task = task_from(own)
        except (OSError, ImportError):  # weights or a library that are not here
            raise
        except Exception as error:  # a forged config may fail in any way
            if shortage(error) == "memory":
                raise ShortageError(
                    f"the settings in {path} ask for more memory than there is ({_innermost(error)}): make room, or "
                    "take another checkpoint if these sizes cannot be right"
                ) from error
            if of_machine(error):
                raise
            raise CheckpointError(f"{path} holds settings that cannot be used: {_innermost(error)}") from error
    else:
        task = task_from(settings)
    load_weights_into(task, content, path)
    return task.eval()


def _innermost(error: BaseException) -> str:
    """Return what an error was caused by in the first place, without what jsonargparse has put around it."""
    while error.__cause__ is not None and not isinstance(error, CheckpointError):
        error = error.__cause__
    return brief(error)
