"""How well a network does, whatever its output is: for the validation of tasks that don't look at it themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from splitlearn.metrics import ObjectScores
from splitlearn.models import BoxDecoder, TorchvisionBoxes
from splitlearn.outputs import check_num_classes
from splitlearn.tasks.checks import check_classes, check_labels


class StudentScores(nn.Module, ABC):
    """Scores of a network's output against what is there, over many batches.

    Attributes:
        of_boxes: whether the output is boxes, which narrow floats would round.
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


class NamedClasses(StudentScores):
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
        """Count logits and the classes `(B,)` that are right.

        Raises:
            ValueError: if they are others.
        """
        check_classes(targets, self.num_classes)
        if not isinstance(output, Tensor) or output.shape[1:] != (self.num_classes,):
            form = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"the student's output is {form} an image, but num_classes is {self.num_classes}: "
                "the classes of student and scores must be the same"
            )
        self.accuracy.update(output, targets)

    def compute(self) -> dict[str, Tensor]:
        """Return the share of images whose class is right."""
        return {"accuracy": self.accuracy.compute()}

    def reset(self) -> None:
        """Forget all batches."""
        self.accuracy.reset()


class FoundObjects(StudentScores):
    """COCO's scores of boxes, and of masks: see `ObjectScores`.

    Args:
        num_classes: number of classes, without background.
        detector: makes boxes of the network's output; None reads that of torchvision's detectors.
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
        """Count what was found in images, and what is there: `Boxes`, one an image."""
        check_labels(targets, self.num_classes)
        self.objects.update(self.detector.decode(output, self.num_classes), targets)

    def compute(self) -> dict[str, Tensor]:
        """Return the mean average precisions."""
        return self.objects.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self.objects.reset()
