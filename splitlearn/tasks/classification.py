"""Who trains, and what is logged, when the tail names one class an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.models import CompressionModel
from splitlearn.outputs import check_num_classes
from splitlearn.tasks.checks import check_classes
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable
from splitlearn.tasks.training import Batch, TrainingTask
from splitlearn.uncast import widened


class ClassificationTask(TrainingTask):
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
        check_num_classes(num_classes, least=2)
        scores = _accuracy(num_classes)
        super().__init__(
            model, scores, rate_loss, rate_weight, distillation, distillation_weight, optimizer, lr_scheduler
        )
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of images `(B, 3, H, W)` in [0, 1], by the differentiable pass."""
        logits: Tensor = self.model(images)
        return logits

    def logits_of(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the network's output, if it is logits `(B, num_classes)`."""
        self._check_shape(prediction)
        return prediction

    def check_targets(self, targets: Tensor) -> None:
        """Refuse labels beyond the classes, and what is no labels."""
        check_classes(targets, self.num_classes)

    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the images."""
        return functional.cross_entropy(widened(logits), targets)

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

    def _check_shape(self, logits: Any) -> None:
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"the network's output is a {type(logits).__name__}, and a class is read from logits (B, num_classes): "
                "wrap the network in a module that returns these alone"
            )
        found = tuple(logits.shape[1:])
        if found != (self.num_classes,):
            raise ValueError(
                f"the network's output has shape {found} an image, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )


def _accuracy(num_classes: int) -> MetricCollection:
    """Top-1 as `accuracy`, and top-5 where there are more than five classes."""
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics)
