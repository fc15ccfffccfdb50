"""What all tasks share: images go through their payloads, and these are measured."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning import Callback, LightningModule
from torch import Tensor

from splitlearn.files import whole_file
from splitlearn.metrics import BitsPerPixel, BytesPerImage
from splitlearn.models import CompressionModel
from splitlearn.tasks.checkpoints import OwnFiles
from splitlearn.tasks.checks import check_data
from splitlearn.tasks.keep_frozen import KeepFrozen
from splitlearn.tasks.precision import check_precision
from splitlearn.tasks.predictions import ImageName, check_no_repeats
from splitlearn.tasks.schedules import SameSchedule


class PayloadTask(LightningModule):
    """A network with bytes in its middle, whose sizes are measured whenever it is tested.

    Args:
        model: the network.

    Attributes:
        num_classes: number of classes, that of the data.
        lets_exits_answer: whether images that the device settles by itself count with what it makes of them.
        finds_boxes: whether the network's output is boxes, which narrow floats would round.

    Raises:
        TypeError: if the model has no bytes in its middle.
        ValueError: if it has exits, and this task would not let them answer.
    """

    num_classes: int
    lets_exits_answer: ClassVar[bool] = False
    finds_boxes: ClassVar[bool] = False

    def __init__(self, model: CompressionModel) -> None:
        super().__init__()
        name, kind = type(self).__name__, type(model).__name__
        if not isinstance(model, CompressionModel):
            raise TypeError(f"a {name} takes a SplitModel, say, or InputModel(network), and this is a {kind}: wrap it")
        if model.exits_early and not self.lets_exits_answer:
            raise ValueError(
                f"a {kind} settles images on the device, which a {name} neither trains nor counts: take an "
                "EarlyExitTask, or a SplitModel of the same cut"
            )
        self.model = model
        self.bytes_per_image, self.bits_per_pixel = BytesPerImage(), BitsPerPixel()

    def setup(self, stage: str) -> None:
        """Refuse data of another number of classes, if they tell it, and a precision that spoils the results.

        Raises:
            ValueError: if there are such.
        """
        check_data(self.num_classes, getattr(self.trainer, "datamodule", None))
        check_precision(self.trainer, self.finds_boxes)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that keep frozen networks as they are, and a resumed run to its schedule and files."""
        return [KeepFrozen(self), SameSchedule(), OwnFiles()]

    def on_test_start(self) -> None:
        """Refuse data that several processes would count twice in part."""
        check_no_repeats(self.trainer.test_dataloaders, self.trainer.world_size)

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Have the codecs prove on the first batch that they lose nothing."""
        if batch_idx == 0:
            self.model.check_lossless(batch[0])

    on_predict_batch_start = on_test_batch_start

    def predict_and_log_sizes(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Send images through their payloads, log the sizes of these and return the predictions."""
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
        if (table_bytes := self.model.table_bytes) is not None:
            self.log("test/table_bytes", float(table_bytes), batch_size=len(images))

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return what `predict` has found as a table: a row of headings, then the rows of a CSV file.

        Args:
            predictions: what `predict_step` has returned, batch by batch.
            class_names: name of each class; None if the data have none.
        """
        raise NotImplementedError

    def write_predictions(
        self, folder: Path, predictions: Sequence[Any], class_names: Sequence[str] | None, images: Sequence[ImageName]
    ) -> None:
        """Write what `predict` has found to predictions.csv, with the files of the images if these lie in files.

        Args:
            folder: of the run.
            predictions: what `predict_step` has returned, a batch of one image each.
            class_names: name of each class; None if the data have none.
            images: which each of them is.
        """
        heading, *rows = self.prediction_table(predictions, class_names)
        filed = any(image.file for image in images)
        table = [[heading[0], *(["file"] if filed else []), *heading[1:]]]
        for place, *cells in rows:
            image = images[place]
            table.append([image.number, *([image.file] if filed else []), *cells])
        with whole_file(folder / "predictions.csv") as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(table)
