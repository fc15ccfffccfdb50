"""Checkpoints that a kill or a full disk cannot take away."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from splitlearn.files import whole_file


class LastCheckpoint(ModelCheckpoint):
    """Keep the newest state as last.ckpt, after every epoch.

    `save_last` of Lightning's own callback follows its monitor: epochs that are not among the best leave nothing to
    resume from. It saves after every epoch also where only some epochs are validated.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing from a checkpoint: the file's name is always the same, and no other one is removed."""


class OwnFiles(Callback):
    """Let the callbacks of a resumed run remove no files but checkpoints in their own folder.

    Which files are the best so far, and are removed for better ones, `ModelCheckpoint` takes from the checkpoint, which
    is data of whoever wrote it. Tasks bring this along. Where a name in it is another one, the callback begins anew.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what was restored."""
        forget_others_files(trainer)


def forget_others_files(trainer: Trainer) -> None:
    """Make callbacks of a trainer that has restored a checkpoint forget files that are not `*.ckpt` in their folder."""
    for callback in trainer.checkpoint_callbacks if trainer.ckpt_path is not None else ():
        if isinstance(callback, ModelCheckpoint) and not _names_its_own(callback):
            callback.best_model_path = callback.kth_best_model_path = callback.last_model_path = ""
            callback.best_k_models, callback.best_model_score, callback.current_score = {}, None, None
            callback.kth_value = torch.tensor(math.inf if callback.mode == "min" else -math.inf)


def _names_its_own(callback: ModelCheckpoint) -> bool:
    """Return whether what a callback knows of earlier checkpoints is what it could have noted itself."""
    best, kth = callback.best_k_models, callback.kth_best_model_path
    if not isinstance(best, dict) or not all(isinstance(score, Tensor) and score.ndim == 0 for score in best.values()):
        return False
    folder = str(callback.dirpath).rstrip("/")
    if not all(_is_within(folder, name) for name in (callback.best_model_path, callback.last_model_path, kth, *best)):
        return False
    return kth in best or (kth == "" and not 0 < callback.save_top_k <= len(best))


def _is_within(folder: str, name: Any) -> bool:
    """Return whether a name is that of a checkpoint right in a folder, or none at all."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return not name or (os.path.dirname(name) == folder and name.endswith(".ckpt") and not os.path.isdir(name))


class WholeFileIO(TorchCheckpointIO):
    """Write checkpoints beside their place and rename them.

    Lightning writes to the system's temporary folder and moves; where that is another file system, moving copies, and
    a disk that fills up meanwhile leaves half a file in the place of a good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all.

        Args:
            checkpoint: what to save.
            path: local file, or an address that Lightning knows how to write to.
            storage_options: not supported by this plug-in, as by its base.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            buffer = io.BytesIO()  # torch tells a full disk only as an internal error of its own
            torch.save(checkpoint, buffer)
            with whole_file(path) as temporary:
                temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Return a checkpoint's content, plain data alone, whatever `weights_only` says: a pickle could run code.

        Args:
            path: local file, or an address that Lightning knows how to read.
            map_location: where its tensors are to lie.
            weights_only: not looked at.
        """
        return super().load_checkpoint(path, map_location, weights_only=True)
