"""Base class of tasks that train: total loss, validation, optimizer and scheduler."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR
from torchmetrics import MetricCollection

from splitlearn.codecs import RANS
from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.metrics import EstimatedBits
from splitlearn.models import CompressionModel, FeatureCoder
from splitlearn.tasks.checks import check_weights
from splitlearn.tasks.payload import PayloadTask, ValidationOutput
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable, schedule

Batch = tuple[Tensor, Tensor]


class TrainingTask(PayloadTask):
    """Base class of tasks that train a bottleneck and test with real payloads.

        loss = task loss + rate_weight · rate(latent) + distillation_weight · distance(features_hat, features)

    A subclass defines logits, loss and scores of its task, and documents the arguments. The optimizer gets the
    parameters that require a gradient: the bottleneck of a `SplitModel`, the whole network of an `InputModel`.
    The gradient of a batch is that of its loss over the root of the factor of its rate (`GainModel`; otherwise 1), so
    that batches of the smallest rates do not rule those that all share.
    Validation runs the differentiable pass and logs `val/estimated_bits`; testing sends every image through its payload
    and logs `test/bytes_per_image`. `scores` compare logits with targets and are logged as `val/…` and `test/…`.

    Reference:
        Datta et al. 2022, eq. 1 and Sec. III-B.
    """

    validates_symbols: ClassVar[bool] = True

    def __init__(
        self,
        model: CompressionModel,
        scores: MetricCollection,
        rate_loss: RateLoss | None,
        rate_weight: float,
        distillation: FeatureDistillation | None,
        distillation_weight: float,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__(model)
        check_weights(rate_weight=rate_weight, distillation_weight=distillation_weight)
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        if rate_loss is not None and model.coder is not None:
            rate_loss.begin(model.coder.latent_shapes, model.coder.quantizers)
        self.distillation, self.distillation_weight = distillation, distillation_weight
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")
        self.estimated_bits = estimated_bits(model.coder)

    @abstractmethod
    def logits_of(self, prediction: Any, targets: Tensor) -> Tensor:
        """Return the logits in a network's output, in the shape that loss and scores expect.

        Raises:
            ValueError: if there are none, or their number of classes is not the task's.
        """

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Check targets before metrics use them.

        Raises:
            ValueError: if they have the wrong form, or a class is out of range.
        """

    @abstractmethod
    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the task, a scalar, without rate and distillation."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, targets = batch
        self._look_at(targets, batch_idx)
        factor = self.model.draw_rate()
        output, size = self.model.run(images), len(targets)
        loss = self.task_loss(self.logits_of(output.prediction, targets), targets)
        parts = {"train/task_loss": loss}
        if self.rate_loss is not None:
            rate = self.rate_loss.total(output.latents)
            parts["train/rate_loss"] = rate
            loss = loss + self.rate_weight * factor * rate
        if self.distillation is not None:
            distance = self.distillation(output.features_hat, output.features)
            parts["train/distillation_loss"] = distance
            loss = loss + self.distillation_weight * distance
        self.log_losses({**parts, "train/loss": loss}, size)
        return loss / math.sqrt(factor)

    def _look_at(self, targets: Tensor, batch_idx: int) -> None:
        """Check the targets of a training batch, except for soft targets (floats) of mixed images."""
        soft = isinstance(targets, Tensor) and targets.is_floating_point()
        if not soft and (batch_idx == 0 or targets.device.type == "cpu"):  # on a GPU, every check waits for the device
            self.check_targets(targets)

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics, which an earlier `validate` may have left in a state that `fit` cannot continue."""
        self.model.reset_rate()
        self.val_scores.reset()
        if self.estimated_bits is not None:
            self.estimated_bits.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> ValidationOutput:
        """Log loss, scores and entropy of the symbols; return the symbols for callbacks."""
        images, targets = batch
        output, size = self.model.run(images), len(targets)
        logits = self.logits_of(output.prediction, targets)
        self.check_targets(targets)
        self.log("val/task_loss", self.task_loss(logits, targets), sync_dist=True, batch_size=size)
        self.val_scores.update(logits, targets)
        self.log_dict(self.val_scores, prog_bar=True, batch_size=size)
        symbols: list[Tensor] = []
        if self.model.coder is not None and self.estimated_bits is not None:
            symbols = self.model.coder.symbols(output.latents)
            self.estimated_bits.update(symbols)
            self.log("val/estimated_bits", self.estimated_bits, prog_bar=True, batch_size=size)
        return {"symbols": symbols}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log scores and payload sizes of images sent as payloads."""
        images, targets = batch
        logits = self.logits_of(self.predict_and_log_sizes(images), targets)
        self.check_targets(targets)
        self.test_scores.update(logits, targets)
        self.log_dict(self.test_scores, batch_size=len(targets))

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the parameters that require a gradient, and its scheduler, from `optimizers`."""
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/task_loss")


def estimated_bits(coder: FeatureCoder | None) -> EstimatedBits | None:
    """Return a metric with one count for each table of the codecs: per tensor, or per channel."""
    if coder is None:
        return None
    split = [isinstance(codec, RANS) and codec.per_channel for codec in coder.codecs]
    shapes = coder.latent_shapes if any(split) else [()] * len(split)
    channels = [shape[0] if each else 1 for shape, each in zip(shapes, split, strict=True)]
    return EstimatedBits([q.levels for q in coder.quantizers], channels)


def optimizers(
    task: LightningModule,
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    monitor: str,
    warmup_steps: int = 0,
) -> Any:
    """Return the optimizer of the parameters that train, and its schedulers, in the form that Lightning expects.

    Args:
        task: task, attached to a Trainer.
        optimizer: function that makes the optimizer from parameters.
        lr_scheduler: function that makes the scheduler from the optimizer. OneCycleLR steps after every batch and gets
            the run's length unless it has one; others step after every epoch. None keeps the learning rate constant.
        monitor: metric that ReduceLROnPlateau watches.
        warmup_steps: batches of linear warmup from a thousandth of the learning rate. The scheduler must multiply the
            rate, like MultiStepLR or CosineAnnealingLR; if it sets the rate, like LambdaLR, the warmup must end within
            the first epoch.

    Raises:
        ValueError: if nothing trains, both warmup and scheduler would set the rate at every batch, or `schedule`
            refuses the scheduler.
    """
    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("nothing trains, since the network is frozen and there is no bottleneck: run `test`")
    made = optimizer(trainable)
    schedulers: list[dict[str, Any]] = []
    if lr_scheduler is not None:
        made_for = schedule(task, made, lr_scheduler, monitor)
        if warmup_steps and made_for["interval"] == "step":
            name = type(made_for["scheduler"]).__name__
            raise ValueError(
                f"{name} sets the learning rate at every batch, which excludes warmup_steps: leave it out, since "
                "OneCycleLR has its own warmup (pct_start), or use another scheduler, such as MultiStepLR"
            )
        schedulers.append(made_for)
    if warmup_steps:
        warmup = LinearLR(made, 1e-3, total_iters=warmup_steps)  # a factor per batch, the other scheduler's per epoch
        schedulers.append({"scheduler": warmup, "interval": "step"})
    return ([made], schedulers) if schedulers else made
