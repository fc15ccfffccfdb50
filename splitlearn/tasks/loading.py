"""From a checkpoint of the command line back to the task that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule

from splitlearn.tasks.keep_frozen import check_frozen

CONFIG_KEY = "splitlearn_config"
"""Where a checkpoint keeps the settings of the run that wrote it."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU; nothing in it is executed.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it is damaged or holds more than plain data.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; splitlearn fit leaves last.ckpt in its run folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # half a file may fail in any way
        raise CheckpointError(f"{path} is damaged or no checkpoint: use an earlier one of the same folder") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{path} is no checkpoint: it holds no state_dict beside the state of a run")
    return content


def load_weights_into(task: LightningModule, content: Mapping[str, Any], path: str | Path) -> None:
    """Copy a checkpoint's weights into `task`.

    Raises:
        CheckpointError: if they do not fit; the sentence names the first tensors that differ.
        FrozenError: if the frozen network in it was changed.
    """
    mine, theirs = task.state_dict(), content["state_dict"]
    wrong = theirs.keys() ^ mine.keys()
    wrong |= {name for name in theirs.keys() & mine.keys() if _shape(mine[name]) != _shape(theirs[name])}
    if wrong:
        raise CheckpointError(
            f"{path} belongs to another architecture: {len(wrong)} entries differ, first "
            f"{', '.join(sorted(wrong)[:3])}; use the config that it was trained with"
        )
    check_frozen(content, str(path))
    task.load_state_dict(theirs)


def load_task(path: str | Path) -> LightningModule:
    """Rebuild the task of a checkpoint that `splitlearn fit` wrote, weights and codec tables included, in eval mode.

    Its config names the classes to build, so load only checkpoints that you would run; exports name none but ours.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        CheckpointError: if it cannot be read or was not written by the command line.
    """
    content = read_checkpoint(path)
    if CONFIG_KEY not in content:
        raise CheckpointError(f"{path} holds no config: it was not written by splitlearn fit; export it from Python")
    task = task_from(content[CONFIG_KEY]["model"])
    load_weights_into(task, content, path)
    return task.eval()


def task_from(settings: Mapping[str, Any]) -> LightningModule:
    """Return the task that the section `model` of a config describes: `class_path` and `init_args`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    task: LightningModule = parser.instantiate(parser.parse_object({"model": settings})).model
    return task


def _shape(entry: Any) -> Any:
    """Shape of a tensor; None for the plain data of an extra state."""
    return getattr(entry, "shape", None)
