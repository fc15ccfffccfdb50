"""Checkpoints that a kill or a full disk cannot take away."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from splitlearn.files import whole_file


class LastCheckpoint(ModelCheckpoint):
    """Keep the newest state as last.ckpt, after every epoch.

    `save_last` of Lightning's own callback follows its monitor: epochs that are not among the best leave nothing to
    resume from. It saves after every epoch also where only some epochs are validated.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)


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
