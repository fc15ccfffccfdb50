"""Agreement of a network's answers with those of its teacher: scores without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from splitlearn.metrics import Share
from splitlearn.models import BoxDecoder
from splitlearn.outputs import Boxes
from splitlearn.tasks.student_scores import DetectionScores, StudentScores

OUT = "out"  # logits in the output of torchvision's segmentation networks


class ClassAgreement(StudentScores):
    """`agreement`: share of images, or of pixels, where the most probable class is the teacher's.

    The outputs are logits `(B, C, …)`, or torchvision's dict with such logits as "out".
    """

    def __init__(self) -> None:
        super().__init__()
        self.equal = Share()

    def update(self, output: Any, targets: Any) -> None:
        """Count an output; *targets* is the output of the teacher.

        Raises:
            ValueError: if the outputs are not logits of the same shape.
        """
        mine, theirs = _logits(output), _logits(targets)
        if mine.shape != theirs.shape:
            raise ValueError(
                f"the network gives logits {tuple(mine.shape)} and its teacher {tuple(theirs.shape)}: both must have "
                "the same classes"
            )
        self.equal.update(mine.argmax(1) == theirs.argmax(1))

    def compute(self) -> dict[str, Tensor]:
        """Return the share."""
        return {"agreement": self.equal.compute()}

    def reset(self) -> None:
        """Forget all batches."""
        self.equal.reset()


class BoxAgreement(StudentScores):
    """`agreement`: COCO's mean average precision with the teacher's boxes as ground truth; `agreement_50` at IoU 0.5.

    Args:
        num_classes: number of classes, without background.
        detector: converts the output to boxes; None reads the output of torchvision's detectors.
        confidence: lowest score of a teacher's box that counts as ground truth.

    Raises:
        ImportError: if faster-coco-eval, which computes the metric, is not installed.
        ValueError: if the confidence is not in [0, 1).
    """

    of_boxes: ClassVar[bool] = True

    def __init__(self, num_classes: int, detector: BoxDecoder | None = None, confidence: float = 0.25) -> None:
        super().__init__()
        if not 0 <= confidence < 1:
            raise ValueError(f"confidence must be in [0, 1), got {confidence}")
        self.boxes = DetectionScores(num_classes, detector)
        self.confidence = confidence

    def update(self, output: Any, targets: Any) -> None:
        """Count an output; *targets* is the output of the teacher."""
        found = self.boxes.detector.decode(targets, self.boxes.num_classes)
        self.boxes.update(output, [_confident(boxes, self.confidence) for boxes in found])

    def compute(self) -> dict[str, Tensor]:
        """Return the mean average precisions."""
        found = self.boxes.compute()
        return {"agreement": found["map"], "agreement_50": found["map_50"]}

    def reset(self) -> None:
        """Forget all batches."""
        self.boxes.reset()


def _logits(output: Any) -> Tensor:
    found = output.get(OUT) if isinstance(output, Mapping) else output
    if not isinstance(found, Tensor) or found.ndim < 2 or found.shape[1] < 2:
        form = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
        raise ValueError(
            f"ClassAgreement compares logits (B, classes, …), and the network's output is {form}: use BoxAgreement for "
            "a detector, or StudentScores of your own"
        )
    return found


def _confident(boxes: Boxes, confidence: float) -> Boxes:
    """Return the boxes above a confidence as ground truth, without scores."""
    kept = torch.ones_like(boxes.labels, dtype=torch.bool) if boxes.scores is None else boxes.scores >= confidence
    return Boxes(boxes.xyxy[kept], boxes.labels[kept])
