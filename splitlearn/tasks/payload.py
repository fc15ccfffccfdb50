"""What all tasks share: images go through their payloads, and these are measured."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from splitlearn.files import whole_file
from splitlearn.metrics import BitsPerPixel, BytesPerImage
from splitlearn.models import CompressionModel, SplitModel, VariableRateModel


class PayloadTask(LightningModule):
    """A network with bytes in its middle, whose sizes are measured whenever it is tested.

    Args:
        model: the network.
    """

    def __init__(self, model: CompressionModel) -> None:
        super().__init__()
        self.model = model
        self.bytes_per_image, self.bits_per_pixel = BytesPerImage(), BitsPerPixel()

    def measured(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Return the prediction of images that went through their payloads, and log the sizes of these."""
        prediction, payloads = self.by_payloads(images)
        self.log_sizes(payloads, images)
        return prediction

    def by_payloads(self, images: Tensor | Sequence[Tensor]) -> tuple[Any, list[bytes]]:
        """Return the prediction of images that went through their payloads, and these."""
        payloads = self.model.compress(images)
        return self.model.decompress(payloads), payloads

    def log_sizes(self, payloads: Sequence[bytes], images: Tensor | Sequence[Tensor]) -> None:
        """Log the sizes of the payloads of a batch of images, one an image."""
        self.bytes_per_image.update(payloads)
        self.bits_per_pixel.update(payloads, images)
        self.log("test/bytes_per_image", self.bytes_per_image, batch_size=len(images))
        self.log("test/bits_per_pixel", self.bits_per_pixel, batch_size=len(images))
        if isinstance(self.model, (SplitModel, VariableRateModel)):
            self.log("test/table_bytes", float(self.model.table_bytes), batch_size=len(images))

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return what `predict` has found as a table: a row of headings, then the rows of a CSV file.

        Args:
            predictions: what `predict_step` has returned, batch by batch.
            class_names: name of each class; None if the data have none.
        """
        raise NotImplementedError

    def write_predictions(self, folder: Path, predictions: Sequence[Any], class_names: Sequence[str] | None) -> None:
        """Write what `predict` has found to predictions.csv.

        Args:
            folder: of the run.
            predictions: what `predict_step` has returned, batch by batch.
            class_names: name of each class; None if the data have none.
        """
        table = self.prediction_table(predictions, class_names)
        with whole_file(folder / "predictions.csv") as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(table)
