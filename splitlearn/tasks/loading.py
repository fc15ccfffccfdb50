"""From a checkpoint of the command line back to the task that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.modules import module as registration

from splitlearn.files import check_zip, holds_few
from splitlearn.models import renamed
from splitlearn.shortage import brief, of_machine
from splitlearn.tasks.keep_frozen import FrozenError, check_frozen
from splitlearn.tasks.trust import check_settings

CONFIG_KEY = "splitlearn_config"
"""Where a checkpoint keeps the settings of the run that wrote it."""

REMEDY = "give the config that it was trained with, --config FILE, or --trust true if the file is yours"
LAYOUT: dict[str, type] = {
    **{"epoch": int, "global_step": int, "pytorch-lightning_version": str, "callbacks": dict, "loops": dict},
    **{"optimizer_states": list, "lr_schedulers": list, CONFIG_KEY: dict},
}  # of what Lightning restores, and of our own
SLACK = 1 << 26  # bytes of weights that a network may be built with and not keep


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
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # half a file may fail in any way
        if of_machine(error):
            raise
        raise CheckpointError(f"{path} is damaged or no checkpoint: use an earlier one of the same folder") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds no state_dict beside the state of a run")
    if not all(_is_stored(each) for each in content["state_dict"].values()):
        raise CheckpointError(f"{path} is damaged or no checkpoint: it names tensors that it does not hold")
    return content


def check_layout(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint that a run cannot have left, before Lightning restores it.

    Raises:
        CheckpointError: then; it names the file.
    """
    wrong = [name for name, kind in LAYOUT.items() if name in content and not isinstance(content[name], kind)]
    wrong += [name for name in ("pytorch-lightning_version",) if name not in content]
    wrong += [name for name in (CONFIG_KEY,) if not holds_few(content.get(name))]
    if wrong:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of a run, which would have another {wrong[0]}: use an earlier one of "
            "the same folder"
        )


def check_architecture(task: LightningModule, content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint whose weights have other names or shapes than those of `task`.

    Raises:
        CheckpointError: then; the sentence names the first tensors that differ.
    """
    mine, theirs = task.state_dict(), dict(content["state_dict"])
    if not all(isinstance(name, str) for name in theirs):
        raise CheckpointError(f"{path} is no checkpoint: its weights have no names")
    renamed(theirs, mine)
    wrong = theirs.keys() ^ mine.keys()
    wrong |= {name for name in theirs.keys() & mine.keys() if _shape(mine[name]) != _shape(theirs[name])}
    if wrong:
        raise CheckpointError(
            f"{path} belongs to another architecture: {len(wrong)} entries differ, first "
            f"{', '.join(sorted(wrong)[:3])}; use the config that it was trained with"
        )


def load_weights_into(task: LightningModule, content: Mapping[str, Any], path: str | Path) -> None:
    """Copy a checkpoint's weights into `task`.

    Raises:
        CheckpointError: if they do not fit; the sentence names the first tensors that differ.
        FrozenError: if the frozen network in it was changed.
    """
    check_architecture(task, content, path)
    try:
        check_frozen(content, str(path))
        task.load_state_dict(content["state_dict"])
    except FrozenError:
        raise
    except Exception as error:  # tables and levels of a forged file may fail in any way
        if of_machine(error):
            raise
        raise CheckpointError(f"{path} holds what does not fit this model: {brief(error)}") from error


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
            if of_machine(error):
                raise
            raise CheckpointError(f"{path} holds settings that cannot be used: {_innermost(error)}") from error
    else:
        task = task_from(settings)
    load_weights_into(task, content, path)
    return task.eval()


def config_of(content: Mapping[str, Any], path: str | Path) -> Mapping[str, Any]:
    """Return the settings of the run that wrote a checkpoint; what they name is not to be trusted, see `trust`.

    Raises:
        CheckpointError: if it holds none.
    """
    config = content.get(CONFIG_KEY)
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise CheckpointError(f"{path} holds no config: it was not written by splitlearn fit; export it from Python")
    return config


@contextmanager
def bounded(state: Mapping[str, Any], path: str | Path) -> Iterator[None]:
    """Let nothing be built with many more weights than a checkpoint holds: forged sizes fail before they are filled.

    Raises:
        CheckpointError: if there are.
    """
    storages = [t.untyped_storage() for t in state.values() if isinstance(t, Tensor)]
    left = 4 * sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()) + SLACK
    seen: set[int] = set()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal left
        if tensor is not None and id(tensor) not in seen:
            seen.add(id(tensor))
            left -= tensor.nbytes
        if left < 0:
            raise CheckpointError(f"{path} contradicts itself: its config asks for far more weights than it holds")

    hooks = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def task_from(settings: Mapping[str, Any]) -> LightningModule:
    """Return the task that the section `model` of a config describes: `class_path` and `init_args`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    task: LightningModule = parser.instantiate(parser.parse_object({"model": settings})).model
    return task


def _is_stored(entry: Any) -> bool:
    """Return whether a file holds the values of a tensor; what is no tensor it holds anyway.

    A single number may be told to be any number of them, and an outline (`meta`) has none.
    """
    if not isinstance(entry, Tensor):
        return True
    if entry.is_meta or entry.layout is not torch.strided:
        return False
    return entry.nbytes <= max(entry.untyped_storage().nbytes(), SLACK)


def _shape(entry: Any) -> Any:
    """Shape of a tensor; None for the plain data of an extra state."""
    return getattr(entry, "shape", None)


def _innermost(error: BaseException) -> str:
    """Return what an error was caused by in the first place, without what jsonargparse has put around it."""
    while error.__cause__ is not None and not isinstance(error, CheckpointError):
        error = error.__cause__
    return brief(error)
