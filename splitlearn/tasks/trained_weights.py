"""Files of trained weights without the frozen network, which the run's settings build again."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningModule
from torch import Tensor

from splitlearn.models import frozen_tensors
from splitlearn.tasks.checkpoints import WholeFileIO
from splitlearn.tasks.keep_frozen import FROZEN_KEY, fingerprint_of
from splitlearn.tasks.loading import load_weights_into, read_checkpoint


def save_trained(task: LightningModule, path: Path) -> None:
    """Write trained weights, codec tables and fingerprints of frozen tensors to a file, complete or not at all."""
    frozen, kept = _divided(task)
    state = {name: entry.detach().cpu() if isinstance(entry, Tensor) else entry for name, entry in kept.items()}
    noted = {name: fingerprint_of(tensor) for name, tensor in frozen.items()}
    WholeFileIO().save_checkpoint({"state_dict": state, FROZEN_KEY: noted}, path)


def load_trained(task: LightningModule, path: Path) -> None:
    """Load a file that `save_trained` wrote into a task that was built from the same settings.

    Raises FileNotFoundError if there is no such file, CheckpointError if it is damaged or belongs to other settings,
    FrozenError if the frozen network of the task is not the one of the training.
    """
    content = read_checkpoint(path)
    frozen, _ = _divided(task)
    load_weights_into(task, content | {"state_dict": frozen | content["state_dict"]}, path)


def _divided(task: LightningModule) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the frozen entries of a task's state, and the other entries."""
    state, names = task.state_dict(), frozen_tensors(task).keys()
    return {n: t for n, t in state.items() if n in names}, {n: t for n, t in state.items() if n not in names}
