"""Box decoder of torchvision detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splitlearn.models.networks.box_decoder import BoxDecoder
from splitlearn.outputs import Boxes


class TorchvisionBoxes(BoxDecoder):
    """Decode the output of torchvision detectors: a dict per image with boxes, labels, scores and optional masks.

    Their class 0 is the background, so label n is class n − 1 here. torchvision's COCO detectors use the category ids
    1 … 90 with ten unused ones: with `unused: [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]` the other 80 become the classes
    0 … 79 of `CocoDetection`.

    Args:
        unused: unused labels of the detector.
        threshold: probability above which a pixel belongs to an object's mask.
    """

    def __init__(self, unused: list[int] | None = None, threshold: float = 0.5) -> None:
        if any(label < 1 for label in unused or ()):
            raise ValueError(f"labels of objects begin with 1, got unused={unused}")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
        self.unused, self.threshold = unused, threshold

    def decode(self, output: Any, num_classes: int) -> list[Boxes]:
        """Return the detected objects of each image, in descending order of score, without unused labels.

        Args:
            output: one dict per image: `boxes` `(N, 4)`, `labels` `(N,)`, `scores` `(N,)` and optional `masks`
                `(N, 1, H, W)`.
            num_classes: number of classes, without background and unused labels.

        Raises:
            ValueError: if the output has another structure, or a label beyond the last class.
        """
        if not isinstance(output, Sequence) or not all(
            isinstance(found, dict) and {"boxes", "labels", "scores"} <= found.keys() for found in output
        ):
            raise ValueError(
                "TorchvisionBoxes reads a list of dicts with boxes, labels and scores, the eval output of "
                f"torchvision's detectors, not {type(output).__name__}"
            )
        return [self._decode_image(found, num_classes) for found in output]

    def _decode_image(self, found: dict[str, Tensor], num_classes: int) -> Boxes:
        labels = found["labels"]
        unused = torch.tensor(sorted(self.unused or ()), dtype=labels.dtype, device=labels.device)
        kept = ~torch.isin(labels, unused)
        classes = (labels - 1 - torch.searchsorted(unused, labels))[kept]
        if len(classes) and (largest := int(classes.max())) >= num_classes:
            raise ValueError(
                f"the detector has found an object of class {largest}, but num_classes is {num_classes}: set it to the "
                "classes of the detector, without background, and `unused` to the labels that none of them has"
            )
        masks = found["masks"][kept, 0] > self.threshold if "masks" in found else None
        return Boxes(found["boxes"][kept], classes, found["scores"][kept], masks=masks)
