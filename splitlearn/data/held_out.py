"""Data module that tests validation images instead of test images."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule

from splitlearn.data.images import DataError


class HeldOutImages(LightningDataModule):
    """Data module whose test images are the validation images of another one; raises DataError if there are none."""

    def __init__(self, data: LightningDataModule) -> None:
        super().__init__()
        if type(data).val_dataloader is LightningDataModule.val_dataloader:
            raise DataError(
                f"{type(data).__name__} has no validation images, and selection by test images would bias their "
                "scores: give it a val_dataloader"
            )
        self.data = data

    def prepare_data(self) -> None:
        """Prepare the data as the other data module does."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the validation images of the other data module; its test images are not read."""
        self.data.trainer = self.trainer
        self.data.setup("validate")

    def test_dataloader(self) -> Any:
        """Return the validation batches."""
        return self.data.val_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to a device with the method of the other data module."""
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the result of this method of the other data module."""
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the result of this method of the other data module."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)
