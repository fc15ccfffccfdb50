"""Lightning module for classification with early exits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.losses import RateLoss
from splitlearn.metrics import Share
from splitlearn.models import EarlyExitModel, one_size
from splitlearn.outputs import Decisions, ExitOutput
from splitlearn.tasks.classification import ClassificationTask
from splitlearn.tasks.payload import ValidationOutput
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable
from splitlearn.tasks.training import Batch


class EarlyExitTask(ClassificationTask):
    """Train a network and its exits jointly; test with real exits, and real payloads for the other images.

        loss = Σ ρ_i · cross-entropy of exit i + rate_weight · rate(features at the cut)

    Validation logs the accuracy of each exit on all images, `val/accuracy_exit_0` and so on, and of the final exit,
    `val/accuracy_final`. Their mean is `val/accuracy`, by which the paper selects the best model. Testing logs the
    results of device and server at the model's threshold: `test/accuracy`, `test/exit_share`, the share of early exits,
    and `test/bytes_per_image`, a mean in which an image that exited early counts as 0 bytes.

    Args:
        model: network with exits.
        num_classes: number of classes.
        exit_weights: ρ_i of the early exits in their order in the network, followed by that of the final exit; None
            gives equal weights with the sum 1.
        rate_loss: differentiable approximation of the payload size; None trains for accuracy only.
        rate_weight: weight of `rate_loss`; λ_e or λ_s in the paper.
        optimizer: function that makes the optimizer from parameters.
        lr_scheduler: function that makes the scheduler from the optimizer, as for `ClassificationTask`.

    Raises:
        ValueError: if the number of weights is not that of the exits plus 1, or a weight is negative.

    Reference:
        Beysens et al. 2023, eqs. 1 and 2.
    """

    model: EarlyExitModel
    lets_exits_answer: ClassVar[bool] = True

    def __init__(
        self,
        model: EarlyExitModel,
        num_classes: int,
        exit_weights: list[float] | None = None,
        rate_loss: RateLoss | None = None,
        rate_weight: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(model, num_classes, rate_loss, rate_weight, optimizer=optimizer, lr_scheduler=lr_scheduler)
        if not model.exits_early:
            raise ValueError(f"a {type(model).__name__} has no exits to train: use a ClassificationTask")
        if num_classes != model.num_classes:
            raise ValueError(
                f"num_classes is {num_classes}, but network and exits have {model.num_classes} classes: "
                "the classes of network and data must be the same"
            )
        count = len(model.exits) + 1
        self.exit_weights = [1 / count] * count if exit_weights is None else exit_weights
        if len(self.exit_weights) != count or not all(0 <= weight < math.inf for weight in self.exit_weights):
            raise ValueError(
                f"exit_weights must be {count} numbers that are not negative, one for each of "
                f"{', '.join(model.exit_names)} and one for the final exit; got {exit_weights}"
            )
        names = [f"exit_{i}" for i in range(count - 1)] + ["final"]
        self.exit_accuracy = nn.ModuleDict({n: MulticlassAccuracy(num_classes, average="micro") for n in names})
        self.overall_accuracy, self.exit_share = Share(), Share()

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics."""
        super().on_validation_epoch_start()
        for metric in (*self.exit_accuracy.values(), self.overall_accuracy):
            cast("Metric", metric).reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        self._look_at(labels, batch_idx)
        output = self.model.run(images)
        loss = self._joint_loss(output, labels)
        parts = {"train/task_loss": loss}
        if self.rate_loss is not None:
            parts["train/rate_loss"] = self.rate_loss.total(output.latents)
            loss = loss + self.rate_weight * parts["train/rate_loss"]
        self.log_losses({**parts, "train/loss": loss}, len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> ValidationOutput:
        """Log joint loss, accuracy of all exits and entropy of the symbols; return the symbols for callbacks."""
        images, labels = batch
        self.check_targets(labels)
        output, size = self.model.run(images), len(labels)
        self.log("val/task_loss", self._joint_loss(output, labels), sync_dist=True, batch_size=size)
        for name, logits in zip(self.exit_accuracy, _all_logits(output), strict=True):
            accuracy = cast("MulticlassAccuracy", self.exit_accuracy[name])
            accuracy.update(logits, labels)
            self.overall_accuracy.update(logits.argmax(1) == labels)
            self.log(f"val/accuracy_{name}", accuracy, batch_size=size)
        self.log("val/accuracy", self.overall_accuracy, prog_bar=True, batch_size=size)
        symbols = self.model.coder.symbols(output.latents)
        assert self.estimated_bits is not None
        self.estimated_bits.update(symbols)
        self.log("val/estimated_bits", self.estimated_bits, prog_bar=True, batch_size=size)
        return {"symbols": symbols}

    def log_sizes(self, payloads: Sequence[bytes], images: Tensor | Sequence[Tensor]) -> None:
        """Log the payload sizes of a batch of images, and the share of images that exited early."""
        super().log_sizes(payloads, images)
        self.exit_share.update(torch.tensor([not payload for payload in payloads]))
        self.log("test/exit_share", self.exit_share, batch_size=len(images))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return class, exit number and bytes of each image, int64 `(B, 3)`; the final exit has the last number."""
        decisions, logits, payloads = self._decided(batch[0])
        self._check_shape(logits)
        sizes = torch.tensor([len(payload) for payload in payloads], device=logits.device)
        return torch.stack([logits.argmax(1), decisions.exits, sizes], 1)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each image: image number, class, name of the class, exit, bytes sent."""
        found: list[list[int]] = torch.cat(list(predictions)).tolist()
        names = [*self.model.exit_names, "final"]
        rows = [
            [i, label, class_names[label] if class_names else "", names[number], size]
            for i, (label, number, size) in enumerate(found)
        ]
        return [["image", "class", "name", "exit", "bytes"], *rows]

    def by_payloads(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, list[bytes]]:
        """Return the logits and the payload of each image: logits of an exit, or those from its payload."""
        _, logits, payloads = self._decided(one_size(images))
        return logits, payloads

    def _decided(self, images: Tensor) -> tuple[Decisions, Tensor, list[bytes]]:
        """Return the exit decisions, the logits of these exits, and the payloads."""
        decisions = self.model.decide(images)
        payloads = self.model.payloads(decisions)
        full = [payload for payload in payloads if payload]
        return decisions, decisions.completed(self.model.decompress(full)) if full else decisions.logits, payloads

    def _joint_loss(self, output: ExitOutput, labels: Tensor) -> Tensor:
        """Return Σ ρ_i · cross-entropy."""
        losses = [
            weight * self.task_loss(self.logits_of(logits, labels), labels)
            for weight, logits in zip(self.exit_weights, _all_logits(output), strict=True)
        ]
        return torch.stack(losses).sum()


def _all_logits(output: ExitOutput) -> Sequence[Tensor]:
    return (*output.exits, output.prediction)
