"""Metrics of semantic segmentation, from one confusion matrix over all images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from splitlearn.metrics.share import ratio
from splitlearn.outputs import IGNORED


class PixelAccuracy(MulticlassConfusionMatrix):
    """Share of labelled pixels with the right class, 0…1."""

    def compute(self) -> Tensor:
        """Return the trace of the confusion matrix over its sum."""
        return ratio(torch.trace(self.confmat), self.confmat.sum())


def pixel_scores(num_classes: int) -> MetricCollection:
    """Return `miou` and `pixel_accuracy` of predicted classes or logits; both share one confusion matrix.

    The mean intersection over union is taken over the classes that occur in masks or predictions. Each class is counted
    over all images together; a mean over images would weight rare classes by the images that contain them.

    Args:
        num_classes: number of classes, at most 255; pixels of class 255 are ignored.
    """
    scores: dict[str, Metric | MetricCollection] = {
        "miou": MulticlassJaccardIndex(num_classes, ignore_index=IGNORED, validate_args=False),
        "pixel_accuracy": PixelAccuracy(num_classes, ignore_index=IGNORED, validate_args=False),
    }
    return MetricCollection(scores, compute_groups=[list(scores)])
