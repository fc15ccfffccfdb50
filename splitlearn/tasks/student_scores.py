"""Validation scores of a student's output, for distillation tasks that do not depend on the kind of network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.metrics import ObjectScores
from splitlearn.models import BoxDecoder, TorchvisionBoxes
from splitlearn.outputs import check_num_classes
from splitlearn.tasks.checks import check_classes, check_labels


class StudentScores(nn.Module, ABC):
    """Base class: scores of a network's output against the ground truth, over several batches.

    Attributes:
        of_boxes: whether the output is boxes, which need full precision.
    """

    of_boxes: ClassVar[bool] = False

    @abstractmethod
    def update(self, output: Any, targets: Any) -> None:
        """Count a batch."""

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Return the scores of all batches since the last `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    def log_to(self, task: LightningModule, part: str) -> None:
        """Log the scores in `task` with the prefix `part/`, and forget all batches."""
        values = {f"{part}/{name}": value.to(task.device) for name, value in self.compute().items()}
        task.log_dict(values, prog_bar=True, sync_dist=True)  # equal in all processes
        self.reset()


class ClassificationScores(StudentScores):
    """`accuracy` of logits `(B, num_classes)`.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        check_num_classes(num_classes, least=2)
        self.num_classes = num_classes
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")

    def update(self, output: Any, targets: Any) -> None:
        """Count logits and the true classes `(B,)`.

        Raises:
            ValueError: if shapes or number of classes do not fit.
        """
        check_classes(targets, self.num_classes)
        if not isinstance(output, Tensor) or output.shape[1:] != (self.num_classes,):
            form = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"the student's output is {form} per image, but num_classes is {self.num_classes}: "
                "the classes of student and scores must be the same"
            )
        self.accuracy.update(output, targets)

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracy."""
        return {"accuracy": self.accuracy.compute()}

    def reset(self) -> None:
        """Forget all batches."""
        self.accuracy.reset()


class DetectionScores(StudentScores):
    """COCO's metrics of boxes, and of masks (`ObjectScores`).

    Args:
        num_classes: number of classes, without background.
        detector: converts the network's output to boxes; None reads the output of torchvision's detectors.
        masks: whether masks are scored too.

    Raises:
        ImportError: if faster-coco-eval, which computes the metric, is not installed.
    """

    of_boxes: ClassVar[bool] = True

    def __init__(self, num_classes: int, detector: BoxDecoder | None = None, masks: bool = False) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.detector = TorchvisionBoxes() if detector is None else detector
        self.objects = ObjectScores(masks)

    def update(self, output: Any, targets: Any) -> None:
        """Count a network's output and the ground truth, `Boxes` for each image."""
        check_labels(targets, self.num_classes)
        self.objects.update(self.detector.decode(output, self.num_classes), targets)

    def compute(self) -> dict[str, Tensor]:
        """Return the mean average precisions."""
        return self.objects.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self.objects.reset()
