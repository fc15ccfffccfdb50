"""Base class of tasks that send images as payloads and measure the payloads."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from lightning import Callback, LightningModule
from torch import Tensor

from splitlearn.files import whole_file
from splitlearn.metrics import BitsPerPixel, BytesPerImage
from splitlearn.models import CompressionModel
from splitlearn.tasks.checkpoints import ForgetForeignCheckpoints
from splitlearn.tasks.checks import check_data
from splitlearn.tasks.keep_frozen import KeepFrozen
from splitlearn.tasks.precision import check_precision
from splitlearn.tasks.predictions import ImageName, check_no_repeats
from splitlearn.tasks.schedules import SameSchedule


class ValidationOutput(TypedDict):
    """Output of a validation step for callbacks, a dict since Lightning requires one; symbols are uint8 `(B, …)`."""

    symbols: list[Tensor]


class DistinctPayloads:
    """Whether the payloads of a test differ from each other."""

    def __init__(self) -> None:
        self._first: bytes | None = None
        self._images, self._differ = 0, False

    def add(self, payloads: Sequence[bytes]) -> None:
        """Take the payloads of a batch; an empty one, of an image that an early exit answers, tells nothing."""
        for payload in filter(None, payloads):
            self._first = payload if self._first is None else self._first
            self._differ = self._differ or payload != self._first
            self._images += 1

    def warn_of_collapse(self) -> None:
        """Warn if two or more images had the same payload, and none another."""
        if self._images > 1 and not self._differ:
            warnings.warn(
                f"all {self._images:,} images have the same payload: the bottleneck has collapsed to a constant, and "
                "the answers do not depend on the images; train it with a smaller rate_weight, or longer",
                stacklevel=2,
            )


class PayloadTask(LightningModule):
    """Base class of tasks that measure payload sizes in every test.

    Args:
        model: network that compresses images to payloads.

    Attributes:
        num_classes: number of classes, equal to that of the data.
        lets_exits_answer: whether the task accepts the prediction of an early exit as the answer for an image.
        finds_boxes: whether the network's output is boxes, which need full precision.
        validates_symbols: whether validation steps return a `ValidationOutput`, which `StaticTables` needs.

    Raises:
        TypeError: if the model does not compress images.
        ValueError: if the model has exits, and the task does not support them.
    """

    num_classes: int
    lets_exits_answer: ClassVar[bool] = False
    finds_boxes: ClassVar[bool] = False
    validates_symbols: ClassVar[bool] = False

    def __init__(self, model: CompressionModel) -> None:
        super().__init__()
        name, kind = type(self).__name__, type(model).__name__
        if not isinstance(model, CompressionModel):
            raise TypeError(f"a {name} needs a model such as SplitModel or InputModel(network), got {kind}: wrap it")
        if model.exits_early and not self.lets_exits_answer:
            raise ValueError(
                f"a {kind} has early exits, which a {name} does not support: use an EarlyExitTask, or a SplitModel of "
                "the same cut"
            )
        self.model = model
        self.bytes_per_image, self.bits_per_pixel = BytesPerImage(), BitsPerPixel()
        self._payloads = DistinctPayloads()

    def setup(self, stage: str) -> None:
        """Check the number of classes of the data, if known, and the precision.

        Raises:
            ValueError: if the number differs from the task's, or the precision is not legal (`check_precision`).
        """
        check_data(self.num_classes, getattr(self.trainer, "datamodule", None))
        check_precision(self.trainer, self.finds_boxes)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that protect frozen weights, the schedule of a resumed run, and foreign files."""
        return [KeepFrozen(self), SameSchedule(), ForgetForeignCheckpoints()]

    def on_test_start(self) -> None:
        """Refuse data if several processes would count some images twice."""
        check_no_repeats(self.trainer.test_dataloaders, self.trainer.world_size)
        self._payloads = DistinctPayloads()

    def on_test_end(self) -> None:
        """Warn if all images had the same payload: then the network answers without having seen them."""
        self._payloads.warn_of_collapse()

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check on the first batch that the codecs are lossless."""
        if batch_idx == 0:
            self.model.check_lossless(batch[0])

    on_predict_batch_start = on_test_batch_start

    def predict_and_log_sizes(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Send images as payloads, log the payload sizes and return the predictions."""
        prediction, payloads = self.by_payloads(images)
        self.log_sizes(payloads, images)
        return prediction

    def by_payloads(self, images: Tensor | Sequence[Tensor]) -> tuple[Any, list[bytes]]:
        """Return the predictions from the payloads of images, and the payloads."""
        payloads = self.model.compress(images)
        return self.model.decompress(payloads), payloads

    def log_sizes(self, payloads: Sequence[bytes], images: Tensor | Sequence[Tensor]) -> None:
        """Log the payload sizes of a batch of images, one payload per image."""
        self._payloads.add(payloads)
        self.bytes_per_image.update(payloads)
        self.bits_per_pixel.update(payloads, images)
        self.log("test/bytes_per_image", self.bytes_per_image, batch_size=len(images))
        self.log("test/bits_per_pixel", self.bits_per_pixel, batch_size=len(images))
        if (table_bytes := self.model.table_bytes) is not None:
            self.log("test/table_bytes", float(table_bytes), batch_size=len(images))

    @property
    def logs_now(self) -> bool:
        """Whether loggers take the losses of the current training batch."""
        every = max(self.trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        return self.trainer.is_last_batch or (self.global_step + 1) % every == 0

    def log_losses(self, losses: Mapping[str, Tensor], size: int) -> None:
        """Log the losses of a batch of `size` images, only at steps at which loggers write, since a call is slow."""
        if self.logs_now:
            for name, loss in losses.items():
                self.log(name, loss, prog_bar=name == "train/loss", batch_size=size)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return the predictions as the rows of a CSV file, with headings in the first row.

        Args:
            predictions: results of `predict_step` for each batch.
            class_names: name of each class; None if the data have none.
        """
        raise NotImplementedError

    def write_predictions(
        self, folder: Path, predictions: Sequence[Any], class_names: Sequence[str] | None, images: Sequence[ImageName]
    ) -> None:
        """Write the predictions to predictions.csv, with the file names of images if there are any.

        Args:
            folder: folder of the run.
            predictions: results of `predict_step` for batches of one image each.
            class_names: name of each class; None if the data have none.
            images: number and file of the image of each prediction.
        """
        heading, *rows = self.prediction_table(predictions, class_names)
        filed = any(image.file for image in images)
        table = [[heading[0], *(["file"] if filed else []), *heading[1:]]]
        for place, *cells in rows:
            image = images[place]
            table.append([image.number, *([image.file] if filed else []), *cells])
        with whole_file(folder / "predictions.csv") as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(table)
