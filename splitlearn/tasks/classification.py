"""Who trains, and what is logged, when the tail names one class an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.metrics import EstimatedBits
from splitlearn.models import CompressionModel, SplitModel
from splitlearn.tasks.payload import PayloadTask

Batch = tuple[Tensor, Tensor]


class ValidationOutput(TypedDict):
    """What a validation step hands to callbacks; Lightning asks for a dict.

    Attributes:
        symbols: uint8 `(B, …)` of each float tensor that crosses the cut.
    """

    symbols: list[Tensor]


class ClassificationTask(PayloadTask):
    """Train what is inserted at the cut for classification; test with real bytes.

        loss = cross-entropy + rate_weight · rate(latent) + distillation_weight · distance(features_hat, features)

    Only parameters that require a gradient are given to the optimizer: the bottleneck of a `SplitModel`, the whole
    network of an `InputModel`. Validation runs the differentiable pass and logs `val/estimated_bits`; testing sends
    every image through its payload and logs `test/bytes_per_image`.

    Args:
        model: the network with bytes in its middle.
        num_classes: number of classes.
        rate_loss: stand-in for the bytes; None trains for accuracy alone.
        rate_weight: weight of the rate; 1/α of Datta et al. 2022, eq. 1 (L = L_r + α·L_t, here divided by α).
        distillation: distance to the frozen network's own features; None leaves it out.
        distillation_weight: weight of that distance.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer. OneCycleLR steps every batch and is given the run's length
            unless it has one; any other steps every epoch, ReduceLROnPlateau on `val/task_loss`. None keeps the
            learning rate.

    Reference:
        Datta et al. 2022, eq. 1 and Sec. III-B.
    """

    def __init__(
        self,
        model: CompressionModel,
        num_classes: int,
        rate_loss: RateLoss | None = None,
        rate_weight: float = 0.0,
        distillation: FeatureDistillation | None = None,
        distillation_weight: float = 1.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(model)
        self.num_classes = num_classes
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        if rate_loss is not None and isinstance(model, SplitModel):
            rate_loss.begin(model.latent_shapes, model.quantizers)
        self.distillation, self.distillation_weight = distillation, distillation_weight
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.val_accuracy = _accuracy(num_classes, "val/")
        self.test_accuracy = _accuracy(num_classes, "test/")
        self.estimated_bits = _estimated_bits(model)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of images `(B, 3, H, W)` in [0, 1], by the differentiable pass."""
        logits: Tensor = self.model(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        output = self.model.run(images)
        self._check_shape(output.prediction)
        loss = functional.cross_entropy(output.prediction, labels)
        self.log("train/task_loss", loss, batch_size=len(labels))
        if self.rate_loss is not None:
            rate = self.rate_loss.total(output.latents)
            self.log("train/rate_loss", rate, batch_size=len(labels))
            loss = loss + self.rate_weight * rate
        if self.distillation is not None:
            distance = self.distillation(output.features_hat, output.features)
            self.log("train/distillation_loss", distance, batch_size=len(labels))
            loss = loss + self.distillation_weight * distance
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> ValidationOutput:
        """Log loss, accuracy and the entropy of the symbols; return these for callbacks."""
        images, labels = batch
        output = self.model.run(images)
        self._matching(output.prediction, labels)
        loss, size = functional.cross_entropy(output.prediction, labels), len(labels)
        self.log("val/task_loss", loss, sync_dist=True, batch_size=size)
        self.val_accuracy.update(output.prediction, labels)
        self.log_dict(self.val_accuracy, prog_bar=True, batch_size=size)
        symbols: list[Tensor] = []
        if isinstance(self.model, SplitModel) and self.estimated_bits is not None:
            symbols = self.model.symbols_of(output.latents)
            self.estimated_bits.update(symbols)
            self.log("val/estimated_bits", self.estimated_bits, prog_bar=True, batch_size=size)
        return {"symbols": symbols}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log accuracy and sizes of images that went through their payloads."""
        images, labels = batch
        self.test_accuracy.update(self._matching(self.measured(images), labels), labels)
        self.log_dict(self.test_accuracy, batch_size=len(labels))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the predicted classes `(B,)`, by way of payloads."""
        logits: Tensor = self.model.decompress(self.model.compress(batch[0]))
        self._check_shape(logits)
        return logits.argmax(1)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each image: its number, its class, the name of the class."""
        classes: list[int] = torch.cat(list(predictions)).tolist()
        rows = [[i, label, class_names[label] if class_names else ""] for i, label in enumerate(classes)]
        return [["image", "class", "name"], *rows]

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what trains, and its scheduler.

        Raises:
            ValueError: if nothing in the model trains.
        """
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not trainable:
            raise ValueError("nothing trains here: network frozen, bottleneck the identity; go straight to `test`")
        optimizer = self.optimizer(trainable)
        if self.lr_scheduler is None:
            return optimizer
        make: Callable[..., Any] = self.lr_scheduler
        try:
            scheduler = make(optimizer)
        except ValueError:  # OneCycleLR without a length
            scheduler = make(optimizer, total_steps=self._total_steps())
        interval = "step" if hasattr(scheduler, "total_steps") else "epoch"
        settings = {"scheduler": scheduler, "interval": interval, "monitor": "val/task_loss"}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def _check_shape(self, logits: Tensor) -> None:
        found = tuple(logits.shape[1:])
        if found != (self.num_classes,):
            raise ValueError(
                f"the network's output has shape {found} an image, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )

    def _matching(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the logits if they are of `num_classes` classes, and no label lies beyond these."""
        self._check_shape(logits)
        if len(labels) and (largest := int(labels.max())) >= self.num_classes:
            raise ValueError(
                f"an image has the label {largest}, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )
        return logits

    def _total_steps(self) -> int:
        return int(self.trainer.estimated_stepping_batches)


def _accuracy(num_classes: int, prefix: str) -> MetricCollection:
    """Top-1 as `accuracy`, and top-5 where there are more than five classes."""
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics, prefix=prefix)


def _estimated_bits(model: CompressionModel) -> EstimatedBits | None:
    return EstimatedBits([q.levels for q in model.quantizers]) if isinstance(model, SplitModel) else None
