"""Loading of tasks from checkpoints of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule

from splitlearn.config.build import task_from
from splitlearn.resource_errors import ShortageError, brief, of_machine, shortage
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
    """Rebuild the task of a checkpoint of `splitlearn fit` with weights and codec tables, in eval mode.

    `settings` is the section `model` of the training config; by default that in the checkpoint, which may only name
    classes of splitlearn and torch, and the loaders of splitlearn.deploy if that is imported; `config_of` reads the
    settings of a trusted checkpoint.

    Raises FileNotFoundError if the checkpoint does not exist; CheckpointError if it cannot be read, was not written by
    the command line, or belongs to other settings; ShortageError if its own settings need more memory than available;
    UntrustedError if they name other classes.
    """
    content = read_checkpoint(path)
    if settings is None:
        own = config_of(content, path)["model"]
        check_settings(own, path, REMEDY)
        try:
            with bounded(content["state_dict"], path):
                task = task_from(own)
        except (OSError, ImportError):  # missing weights or library
            raise
        except Exception as error:  # forged configs may raise anything
            if shortage(error) == "memory":
                raise ShortageError(
                    f"the settings in {path} need more memory than available ({_innermost(error)}): free memory, or "
                    "use another checkpoint if these sizes are wrong"
                ) from error
            if of_machine(error):
                raise
            raise CheckpointError(f"{path} holds settings that cannot be used: {_innermost(error)}") from error
    else:
        task = task_from(settings)
    load_weights_into(task, content, path)
    return task.eval()


def _innermost(error: BaseException) -> str:
    """Return the message of an error's first cause, without the wrappers of jsonargparse."""
    while error.__cause__ is not None and not isinstance(error, CheckpointError):
        error = error.__cause__
    return brief(error)
