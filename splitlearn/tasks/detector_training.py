"""Lightning module for training of torchvision's detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule
from torch import Tensor, nn

from splitlearn.models import check_name, freeze
from splitlearn.models.cutting.detector import is_detector
from splitlearn.outputs import Boxes, check_num_classes
from splitlearn.tasks.checkpoints import ForgetForeignCheckpoints
from splitlearn.tasks.checks import check_data, check_labels
from splitlearn.tasks.keep_frozen import KeepFrozen
from splitlearn.tasks.precision import check_precision, full_precision
from splitlearn.tasks.predictions import check_no_repeats
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable, SameSchedule
from splitlearn.tasks.student_scores import DetectionScores
from splitlearn.tasks.training import optimizers

Batch = tuple[Sequence[Tensor], list[Boxes]]


class DetectorTrainingTask(LightningModule):
    """Train a whole, unsplit detector of torchvision with its own losses, for example as a teacher.

        loss = sum of the detector's losses: regions, classes, boxes, and masks if it predicts them

    A batch is a list of images of any sizes, in [0, 1], and their objects. Crowds are ignored in training. Validation
    and test log COCO's metrics, such as `val/map` (`ObjectScores`). Mixed precision applies only to training, since it
    would round the boxes that are scored.

    Args:
        model: the detector; it has one class more than the data, since its class 0 is the background.
        num_classes: number of classes, without background.
        masks: whether masks are scored too; None scores them if the detector predicts masks.
        frozen: modules that do not train, e.g. `[backbone.body.0]`.
        optimizer: function that makes the optimizer from parameters.
        lr_scheduler: function that makes the scheduler from the optimizer. OneCycleLR steps after every batch, by
            default over the length of the run; others step after every epoch. None keeps the learning rate constant.
        warmup_steps: batches of linear warmup from a thousandth of the learning rate; not with OneCycleLR, which has
            its own warmup.

    Raises:
        ValueError: if the model is no detector of torchvision, is Keypoint R-CNN, has a different number of classes, or
            predicts no masks to score.
        CutError: if a frozen module does not exist.
        ImportError: if faster-coco-eval, which computes the metric, is not installed.

    Reference:
        Ren et al. 2015; He et al. 2017.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        masks: bool | None = None,
        frozen: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if not is_detector(model):
            raise ValueError(
                f"a DetectorTrainingTask trains detectors of torchvision, and this is a {type(model).__name__}: "
                "use one of splitlearn.models, such as faster_rcnn"
            )
        self.model = model
        if self._has("keypoint"):
            raise ValueError("no data module has keypoints to train Keypoint R-CNN on: use published weights")
        if masks and not self._has("mask"):
            raise ValueError("this detector predicts only boxes: leave `masks` out, or train Mask R-CNN")
        check_num_classes(num_classes)
        self._check_classes(num_classes)
        self.num_classes = num_classes
        for name in frozen or ():
            check_name(model, name)
            freeze(model.get_submodule(name))
        self.optimizer, self.lr_scheduler, self.warmup_steps = optimizer, lr_scheduler, warmup_steps
        masks = self._has("mask") if masks is None else masks
        self.val_scores, self.test_scores = (DetectionScores(num_classes, masks=masks) for _ in range(2))

    def setup(self, stage: str) -> None:
        """Check the number of classes of the data, if known, and the precision.

        Raises:
            ValueError: if the number differs from the task's, or the precision would round boxes.
        """
        check_data(self.num_classes, getattr(self.trainer, "datamodule", None))
        check_precision(self.trainer, boxes=True)

    def on_test_start(self) -> None:
        """Refuse data if several processes would count some images twice."""
        check_no_repeats(self.trainer.test_dataloaders, self.trainer.world_size)

    def forward(self, images: Sequence[Tensor]) -> Any:
        """Return the detector's output: one dict per image."""
        return self.model(list(images))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of the detector's losses."""
        images, objects = batch
        losses: dict[str, Tensor] = self.model(list(images), [self._target(each) for each in objects])
        total = torch.stack(list(losses.values())).sum()
        named = {f"train/{name.removeprefix('loss_')}": loss for name, loss in losses.items()}
        self.log_dict(named, batch_size=len(images))
        self.log("train/loss", total, prog_bar=True, batch_size=len(images))
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the predictions of a batch."""
        self._count(batch, self.val_scores)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the predictions of a batch."""
        self._count(batch, self.test_scores)

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self.val_scores.log_to(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self.test_scores.log_to(self, "test")

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that protect frozen weights, the schedule of a resumed run, and foreign files."""
        return [KeepFrozen(self), SameSchedule(), ForgetForeignCheckpoints()]

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the parameters that are not frozen, and its schedulers."""
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/map", self.warmup_steps)

    def _count(self, batch: Batch, scores: DetectionScores) -> None:
        with full_precision(self.device):
            scores.update(self(batch[0]), batch[1])

    def _target(self, objects: Boxes) -> dict[str, Tensor]:
        check_labels([objects], self.num_classes)
        kept = torch.ones_like(objects.labels, dtype=torch.bool) if objects.crowd is None else ~objects.crowd
        target = {"boxes": objects.xyxy[kept], "labels": objects.labels[kept] + 1}
        if self._has("mask"):
            if objects.masks is None:
                raise ValueError("this detector learns masks, and the data have only boxes: set `masks` of the data")
            target["masks"] = objects.masks[kept].to(torch.uint8)
        return target

    def _check_classes(self, num_classes: int) -> None:
        heads: Any = getattr(self.model, "roi_heads", None)
        predictor = getattr(heads, "box_predictor", None)
        if (
            isinstance(found := getattr(predictor, "cls_score", None), nn.Linear)
            and found.out_features != num_classes + 1
        ):
            raise ValueError(
                f"the detector has {found.out_features} classes with the background, but num_classes is {num_classes}: "
                f"give the detector {num_classes + 1} classes"
            )

    def _has(self, branch: str) -> bool:
        """Return whether the detector has a branch of Mask or Keypoint R-CNN."""
        heads: Any = getattr(self.model, "roi_heads", None)
        return heads is not None and bool(getattr(heads, f"has_{branch}")())
