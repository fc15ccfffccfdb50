"""Reading of checkpoints, and comparison with the task that they are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.modules import module as registration

from splitlearn.files import check_zip, holds_few
from splitlearn.models import rename_former_keys
from splitlearn.resource_errors import brief, raised_as
from splitlearn.tasks.keep_frozen import FrozenError, check_frozen

CONFIG_KEY = "splitlearn_config"
"""Key of a checkpoint with the settings of its run."""

CLASSES_KEY = "splitlearn_classes"
"""Key of a checkpoint with the class names of its training data."""

DRAWN_KEY = "splitlearn_drawn_from"
"""Key of a checkpoint with the `drawn_from` of its training data."""

REMEDY = "give the config that it was trained with, --config FILE"
LAYOUT: dict[str, type] = {
    **{"epoch": int, "global_step": int, "pytorch-lightning_version": str, "callbacks": dict, "loops": dict},
    **{"optimizer_states": list, "lr_schedulers": list, CONFIG_KEY: dict},
}  # types of entries that Lightning or splitlearn restores
SLACK = 1 << 26  # bytes of weights that a network may have while it is built, beyond those that it keeps


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another model."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU; nothing in it is executed.

    Raises FileNotFoundError if the file is missing, CheckpointError if it is damaged or contains more than plain data.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; splitlearn fit leaves last.ckpt in its run folder")
    damaged = CheckpointError(f"{path} is damaged or no checkpoint: use an earlier one of the same folder")
    with raised_as(lambda _: damaged, but=PermissionError):  # half a file may fail in any way
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path} is no checkpoint of a run: it has no state_dict")
    if not all(_is_stored(each) for each in content["state_dict"].values()):
        raise CheckpointError(f"{path} is damaged or no checkpoint: it names tensors without their values")
    return content


def check_layout(content: Mapping[str, Any], path: str | Path) -> None:
    """Check the types of a checkpoint's entries, before Lightning restores them.

    Raises CheckpointError, naming the file, if no run can have written such a checkpoint.
    """
    wrong = [name for name, kind in LAYOUT.items() if name in content and not isinstance(content[name], kind)]
    wrong += [name for name in ("pytorch-lightning_version",) if name not in content]
    wrong += [name for name in (CONFIG_KEY,) if not holds_few(content.get(name))]
    if wrong:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of a run (see its entry {wrong[0]}): use an earlier one of the same "
            "folder"
        )


def check_architecture(task: LightningModule, content: Mapping[str, Any], path: str | Path) -> None:
    """Compare names and shapes of a checkpoint's weights with those of `task`; raise CheckpointError if they differ."""
    mine, theirs = task.state_dict(), dict(content["state_dict"])
    if not all(isinstance(name, str) for name in theirs):
        raise CheckpointError(f"{path} is no checkpoint: its weights have no names")
    rename_former_keys(theirs, mine)
    wrong = theirs.keys() ^ mine.keys()
    wrong |= {name for name in theirs.keys() & mine.keys() if _shape(mine[name]) != _shape(theirs[name])}
    if wrong:
        raise CheckpointError(
            f"{path} belongs to another architecture: {len(wrong)} entries differ, first "
            f"{', '.join(sorted(wrong)[:3])}; use the config that it was trained with"
        )


def load_weights_into(task: LightningModule, content: Mapping[str, Any], path: str | Path) -> None:
    """Copy a checkpoint's weights into `task`.

    Raises CheckpointError if they do not fit, naming the first tensors that differ; FrozenError if the checkpoint's
    frozen tensors have changed since training began.
    """
    check_architecture(task, content, path)
    # tables and levels of a forged file may fail in any way
    with raised_as(lambda error: CheckpointError(f"{path} does not fit this model: {brief(error)}"), but=FrozenError):
        check_frozen(content, str(path))
        task.load_state_dict(content["state_dict"])


def config_of(content: Mapping[str, Any], path: str | Path) -> Mapping[str, Any]:
    """Return the settings of the run that wrote a checkpoint; classes that they name are not trusted, see `trust`.

    Raises CheckpointError if it has no settings.
    """
    config = content.get(CONFIG_KEY)
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise CheckpointError(
            f"{path} holds no config, as checkpoints of splitlearn fit do: give the config of its training, --config "
            "FILE; for a trial of a sweep, --config bottleneck.yaml, which lies beside it, and no checkpoint"
        )
    return config


@contextmanager
def bounded(state: Mapping[str, Any], path: str | Path) -> Iterator[None]:
    """Context manager that refuses to build modules with far more weights than a checkpoint holds.

    A forged config in a checkpoint thus fails before it fills the memory. Raises CheckpointError, naming the path.
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


def _is_stored(entry: Any) -> bool:
    """Return whether a file holds all values of an entry: expanded tensors and those of `meta` have fewer."""
    if not isinstance(entry, Tensor):
        return True
    if entry.is_meta or entry.layout is not torch.strided:
        return False
    return entry.nbytes <= max(entry.untyped_storage().nbytes(), SLACK)


def _shape(entry: Any) -> Any:
    """Return the shape of a tensor; None for the plain data of an extra state."""
    return getattr(entry, "shape", None)
