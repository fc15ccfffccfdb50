"""What tasks that train share: the loss around the task's own, validation, optimizer and scheduler."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypedDict

from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR
from torchmetrics import MetricCollection

from splitlearn.codecs import RANS
from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.metrics import EstimatedBits
from splitlearn.models import CompressionModel, SplitModel
from splitlearn.tasks.checks import check_weights
from splitlearn.tasks.payload import PayloadTask
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable, schedule

Batch = tuple[Tensor, Tensor]


class ValidationOutput(TypedDict):
    """What a validation step hands to callbacks; Lightning asks for a dict.

    Attributes:
        symbols: uint8 `(B, …)` of each float tensor that crosses the cut.
    """

    symbols: list[Tensor]


class TrainingTask(PayloadTask):
    """Train what is inserted at the cut; test with real bytes.

        loss = task loss + rate_weight · rate(latent) + distillation_weight · distance(features_hat, features)

    A subclass says what the logits and the loss of its task are, and how they are scored. Only parameters that require
    a gradient are given to the optimizer: the bottleneck of a `SplitModel`, the whole network of an `InputModel`.
    Validation runs the differentiable pass and logs `val/estimated_bits`; testing sends every image through its payload
    and logs `test/bytes_per_image`.

    Args:
        model: the network with bytes in its middle.
        scores: of logits against targets; logged as `val/…` and `test/…`.
        rate_loss: stand-in for the bytes; None trains for the task alone.
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
        if rate_loss is not None and isinstance(model, SplitModel):
            rate_loss.begin(model.coder.latent_shapes, model.coder.quantizers)
        self.distillation, self.distillation_weight = distillation, distillation_weight
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")
        self.estimated_bits = _estimated_bits(model)

    @abstractmethod
    def logits_of(self, prediction: Any, targets: Tensor) -> Tensor:
        """Return the logits that a network's output holds, in the shape that loss and scores compare with targets.

        Raises:
            ValueError: if the output holds none, or of another number of classes.
        """

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that no class of the network stands for, before a metric sees them.

        Raises:
            ValueError: if there are such.
        """

    @abstractmethod
    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the task's own loss, a scalar."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, targets = batch
        self._look_at(targets, batch_idx)
        output, size = self.model.run(images), len(targets)
        loss = self.task_loss(self.logits_of(output.prediction, targets), targets)
        parts = {"train/task_loss": loss}
        if self.rate_loss is not None:
            rate = self.rate_loss.total(output.latents)
            parts["train/rate_loss"] = rate
            loss = loss + self.rate_weight * rate
        if self.distillation is not None:
            distance = self.distillation(output.features_hat, output.features)
            parts["train/distillation_loss"] = distance
            loss = loss + self.distillation_weight * distance
        self.log_losses({**parts, "train/loss": loss}, size)
        return loss

    def _look_at(self, targets: Tensor, batch_idx: int) -> None:
        """Check the targets of a batch to train on, but for soft ones, floats, as mixtures of images have them."""
        soft = isinstance(targets, Tensor) and targets.is_floating_point()
        if not soft and (batch_idx == 0 or targets.device.type == "cpu"):  # elsewhere each look waits for the device
            self.check_targets(targets)

    def log_losses(self, losses: Mapping[str, Tensor], size: int) -> None:
        """Log the losses of a batch of `size`, at steps that loggers write: a call takes as long as a small layer."""
        every = max(self.trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        if self.trainer.is_last_batch or (self.global_step + 1) % every == 0:
            for name, loss in losses.items():
                self.log(name, loss, prog_bar=name == "train/loss", batch_size=size)

    def on_validation_epoch_start(self) -> None:
        """Make the metrics' states anew: `fit` cannot add to those that a `validate` before it has left."""
        self.val_scores.reset()
        if self.estimated_bits is not None:
            self.estimated_bits.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> ValidationOutput:
        """Log loss, scores and the entropy of the symbols; return these for callbacks."""
        images, targets = batch
        output, size = self.model.run(images), len(targets)
        logits = self.logits_of(output.prediction, targets)
        self.check_targets(targets)
        self.log("val/task_loss", self.task_loss(logits, targets), sync_dist=True, batch_size=size)
        self.val_scores.update(logits, targets)
        self.log_dict(self.val_scores, prog_bar=True, batch_size=size)
        symbols: list[Tensor] = []
        if isinstance(self.model, SplitModel) and self.estimated_bits is not None:
            symbols = self.model.coder.symbols(output.latents)
            self.estimated_bits.update(symbols)
            self.log("val/estimated_bits", self.estimated_bits, prog_bar=True, batch_size=size)
        return {"symbols": symbols}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log scores and sizes of images that went through their payloads."""
        images, targets = batch
        logits = self.logits_of(self.predict_and_log_sizes(images), targets)
        self.check_targets(targets)
        self.test_scores.update(logits, targets)
        self.log_dict(self.test_scores, batch_size=len(targets))

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what trains, and its scheduler.

        Raises:
            ValueError: if nothing in the model trains.
        """
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/task_loss")


def _estimated_bits(model: CompressionModel) -> EstimatedBits | None:
    """Count symbols as the model's codecs do: for each channel where they have tables of their own."""
    if not isinstance(model, SplitModel):
        return None
    split = [isinstance(codec, RANS) and codec.per_channel for codec in model.coder.codecs]
    shapes = model.coder.latent_shapes if any(split) else [()] * len(split)
    channels = [shape[0] if each else 1 for shape, each in zip(shapes, split, strict=True)]
    return EstimatedBits([q.levels for q in model.coder.quantizers], channels)


def optimizers(
    task: LightningModule,
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    monitor: str,
    warmup_steps: int = 0,
) -> Any:
    """Return the optimizer over what trains in a task, and its schedulers, as Lightning takes them.

    Args:
        task: attached to a Trainer.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer. OneCycleLR steps every batch and is given the run's length
            unless it has one; any other steps every epoch. None keeps the learning rate.
        monitor: what ReduceLROnPlateau watches.
        warmup_steps: batches in which the learning rate rises from a thousandth, as a line. The scheduler must multiply
            the rate, as MultiStepLR or CosineAnnealingLR; beside one that sets it, as LambdaLR, the warmup must end
            within the first epoch.

    Raises:
        ValueError: if nothing trains, or both the warmup and the scheduler would set the rate at every batch, or the
            scheduler does not fit the run, as `schedule` says.
    """
    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("nothing trains here: network frozen, bottleneck the identity; go straight to `test`")
    made = optimizer(trainable)
    schedulers: list[dict[str, Any]] = []
    if lr_scheduler is not None:
        made_for = schedule(task, made, lr_scheduler, monitor)
        if warmup_steps and made_for["interval"] == "step":
            name = type(made_for["scheduler"]).__name__
            raise ValueError(
                f"{name} sets the learning rate at every batch, so there is no place for "
                "warmup_steps: leave it out, as OneCycleLR has a rise of its own (pct_start), or take MultiStepLR, say"
            )
        schedulers.append(made_for)
    if warmup_steps:
        warmup = LinearLR(made, 1e-3, total_iters=warmup_steps)  # a factor a batch, as the other's an epoch
        schedulers.append({"scheduler": warmup, "interval": "step"})
    return ([made], schedulers) if schedulers else made
