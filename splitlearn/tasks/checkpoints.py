"""Checkpoints that survive kills and full disks."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from splitlearn.files import whole_file


class LastCheckpoint(ModelCheckpoint):
    """Save the newest state as last.ckpt after every epoch, validated or not.

    With `save_last` of Lightning's own callback, epochs that are not among the best leave nothing to resume from.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing: the name of the file never changes, and no other file is removed."""


class ForgetForeignCheckpoints(Callback):
    """Keep the callbacks of a resumed run from removing files other than checkpoints in their own folder.

    `ModelCheckpoint` reads from the checkpoint which files are the best so far, and removes them for better ones. These
    names are not trusted: a callback with a foreign name starts without any. Tasks add this callback themselves.
    """

    trains_together: ClassVar[bool] = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the names that callbacks have restored."""
        forget_foreign_files(trainer)


def forget_foreign_files(trainer: Trainer) -> None:
    """Reset restored callbacks of a trainer that name a file other than a `*.ckpt` in their folder."""
    for callback in trainer.checkpoint_callbacks if trainer.ckpt_path is not None else ():
        if isinstance(callback, ModelCheckpoint) and not _is_valid(callback):
            callback.best_model_path = callback.kth_best_model_path = callback.last_model_path = ""
            callback.best_k_models, callback.best_model_score, callback.current_score = {}, None, None
            callback.kth_value = torch.tensor(math.inf if callback.mode == "min" else -math.inf)


def _is_valid(callback: ModelCheckpoint) -> bool:
    """Return whether a callback's record of earlier checkpoints is one that it could have written itself."""
    best, kth = callback.best_k_models, callback.kth_best_model_path
    if not isinstance(best, dict) or not all(isinstance(score, Tensor) and score.ndim == 0 for score in best.values()):
        return False
    folder = str(callback.dirpath).rstrip("/")
    if not all(_is_within(folder, name) for name in (callback.best_model_path, callback.last_model_path, kth, *best)):
        return False
    return kth in best or (kth == "" and not 0 < callback.save_top_k <= len(best))


def _is_within(folder: str, name: Any) -> bool:
    """Return whether a name is empty, or that of a checkpoint directly in a folder."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return not name or (os.path.dirname(name) == folder and name.endswith(".ckpt") and not os.path.isdir(name))


class WholeFileIO(TorchCheckpointIO):
    """Write each checkpoint to a temporary file in its own folder, then rename it.

    Lightning writes to the system's temporary folder and moves the file. If that is another file system and the disk
    becomes full meanwhile, an incomplete file replaces a complete one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all.

        Args:
            checkpoint: content of the checkpoint.
            path: local file, or an address that Lightning can write to.
            storage_options: not supported by this plug-in, as by its base.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            buffer = io.BytesIO()  # writing to a full disk directly, torch raises only an internal error
            torch.save(checkpoint, buffer)
            with whole_file(path) as temporary:
                temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Return a checkpoint's content; only plain data are loaded, since a pickle could run code.

        Args:
            path: local file, or an address that Lightning can read.
            map_location: device of its tensors.
            weights_only: ignored.
        """
        return super().load_checkpoint(path, map_location, weights_only=True)
