"""Lightning module for image classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.kept_dtypes import widened
from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.models import CompressionModel
from splitlearn.outputs import check_num_classes
from splitlearn.tasks.checks import check_classes
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable
from splitlearn.tasks.training import Batch, TrainingTask


class ClassificationTask(TrainingTask):
    """Train a bottleneck for image classification; test with real payloads.

        loss = cross-entropy + rate_weight · rate(latent) + distillation_weight · distance(features_hat, features)

    The optimizer gets the parameters that require a gradient: the bottleneck of a `SplitModel`, the whole network of an
    `InputModel`. Validation runs the differentiable pass and logs `val/estimated_bits`; testing sends every image
    through its payload and logs `test/bytes_per_image`.

    Args:
        model: network that compresses images to payloads.
        num_classes: number of classes.
        rate_loss: differentiable approximation of the payload size; None trains for accuracy only.
        rate_weight: weight of `rate_loss`; 1/α of Datta et al. 2022, eq. 1 (L = L_r + α·L_t, here divided by α).
        distillation: distance to the features of the frozen network; None omits it.
        distillation_weight: weight of that distance.
        optimizer: function that makes the optimizer from parameters.
        lr_scheduler: function that makes the scheduler from the optimizer. OneCycleLR steps after every batch, by
            default over the length of the run; others step after every epoch, ReduceLROnPlateau by `val/task_loss`.
            None keeps the learning rate constant.

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
        """Return logits `(B, num_classes)` of images `(B, 3, H, W)` in [0, 1] from the differentiable pass."""
        logits: Tensor = self.model(images)
        return logits

    def logits_of(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the network's output after a check that it is logits `(B, num_classes)`."""
        self._check_shape(prediction)
        return prediction

    def check_targets(self, targets: Tensor) -> None:
        """Refuse labels out of range, and targets that are no labels."""
        check_classes(targets, self.num_classes)

    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the images."""
        return functional.cross_entropy(widened(logits), targets)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the predicted classes `(B,)` of images sent as payloads."""
        logits: Tensor = self.model.decompress(self.model.compress(batch[0]))
        self._check_shape(logits)
        return logits.argmax(1)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each image: image number, class, and name of the class."""
        classes: list[int] = torch.cat(list(predictions)).tolist()
        rows = [[i, label, class_names[label] if class_names else ""] for i, label in enumerate(classes)]
        return [["image", "class", "name"], *rows]

    def _check_shape(self, logits: Any) -> None:
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"the network's output is a {type(logits).__name__}, and classification needs logits (B, num_classes): "
                "wrap the network in a module that returns only these"
            )
        found = tuple(logits.shape[1:])
        if found != (self.num_classes,):
            raise ValueError(
                f"the network's output has shape {found} per image, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )


def _accuracy(num_classes: int) -> MetricCollection:
    """Return top-1 as `accuracy`, and top-5 if there are more than five classes."""
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics)
