"""Lightning module for semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from splitlearn.files import whole_file
from splitlearn.kept_dtypes import widened
from splitlearn.losses import FeatureDistillation, RateLoss
from splitlearn.metrics import pixel_scores
from splitlearn.models import CompressionModel
from splitlearn.outputs import IGNORED
from splitlearn.tasks.predictions import ImageName
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable
from splitlearn.tasks.training import Batch, TrainingTask


class SegmentationTask(TrainingTask):
    """Train a bottleneck in a segmentation network; test with real payloads.

        loss = cross-entropy + rate_weight · rate(latent) + distillation_weight · distance(features_hat, features)

    The network's output is logits `(B, num_classes, h, w)`, or a dict with these under "out", as in torchvision. Logits
    are resized bilinearly to the masks, and the cross-entropy is the mean over pixels. Pixels of class 255 are ignored.
    `test/miou` and `test/pixel_accuracy` are computed from one confusion matrix over all images. Bits per pixel refer
    to the network's input, padding included.

    Args:
        model: network that compresses images to payloads.
        num_classes: number of classes, background included.
        rate_loss: differentiable approximation of the payload size; None trains for the task only.
        rate_weight: weight of `rate_loss`; 1/α of Datta et al. 2022, eq. 1 (L = L_r + α·L_t, here divided by α).
        distillation: distance to the features of the frozen network; None omits it.
        distillation_weight: weight of that distance.
        optimizer: function that makes the optimizer from parameters.
        lr_scheduler: function that makes the scheduler from the optimizer. OneCycleLR steps after every batch, by
            default over the length of the run; others step after every epoch, ReduceLROnPlateau by `val/task_loss`.
            None keeps the learning rate constant.

    Raises:
        ValueError: if there are fewer than 2 classes, or more than 255.

    Reference:
        Datta et al. 2022, eq. 1, Secs. III-B and IV.
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
        if not 2 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must lie in 2…255, got {num_classes}")
        scores = pixel_scores(num_classes)
        super().__init__(
            model, scores, rate_loss, rate_weight, distillation, distillation_weight, optimizer, lr_scheduler
        )
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes, H, W)` of images `(B, 3, H, W)` in [0, 1] from the differentiable pass."""
        return self.logits_of(self.model(images), images)

    def logits_of(self, prediction: Any, targets: Tensor) -> Tensor:
        """Return the network's logits `(B, num_classes, h, w)`, resized to the height and width of `targets`."""
        _check_masks(targets)
        logits = prediction.get("out") if isinstance(prediction, Mapping) else prediction
        if not isinstance(logits, Tensor) or logits.ndim != 4:
            found = f"has shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"is a {_kind(prediction)}"
            raise ValueError(
                f"the network's output {found}: segmentation needs logits (B, classes, h, w), or a dict with them "
                "under 'out'"
            )
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"the network has {logits.shape[1]} classes, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )
        size = targets.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return functional.interpolate(logits, size, mode="bilinear", align_corners=False)

    def check_targets(self, targets: Tensor) -> None:
        """Refuse masks with classes out of range, and targets that are no masks."""
        _check_masks(targets)
        wrong = targets[(targets < 0) | ((targets >= self.num_classes) & (targets != IGNORED))]
        if len(wrong):
            raise ValueError(
                f"a mask has the class {int(wrong.max())}, but num_classes is {self.num_classes}: "
                "the classes of network and data must be the same"
            )

    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the pixels that have a class; 0 if none has."""
        total = functional.cross_entropy(widened(logits), targets.long(), ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum().clamp(min=1)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the predicted class of every pixel, uint8 `(B, H, W)`, of images sent as payloads."""
        images, masks = batch
        logits = self.logits_of(self.model.decompress(self.model.compress(images)), masks)
        return logits.argmax(1).to(torch.uint8)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each class in an image: image number, class, name of the class, number of pixels."""
        rows: list[list[Any]] = [["image", "class", "name", "pixels"]]
        for i, mask in enumerate(mask for batch in predictions for mask in batch):
            labels, counts = mask.unique(return_counts=True)
            for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
                rows.append([i, label, class_names[label] if class_names else "", count])
        return rows

    def write_predictions(
        self, folder: Path, predictions: Sequence[Any], class_names: Sequence[str] | None, images: Sequence[ImageName]
    ) -> None:
        """Write predictions.csv, and the classes of each image as masks/NAME.png in the colours of VOC.

        NAME is the file name of the image without suffix, or its number if it has no file, or both if names are equal.
        """
        super().write_predictions(folder, predictions, class_names, images)
        stems = [Path(image.file).stem for image in images]
        shared = len(set(stems)) < len(stems)
        for image, stem, (mask,) in zip(images, stems, predictions, strict=True):
            number = f"{image.number:05}"
            name = "_".join([number, stem] if shared and stem else [stem or number])
            drawn = Image.fromarray(mask.cpu().numpy())
            drawn.putpalette(_voc_colours().tobytes())
            with whole_file(folder / "masks" / f"{name}.png") as temporary:
                drawn.save(temporary)


def _check_masks(targets: Any) -> None:
    if not isinstance(targets, Tensor) or targets.ndim < 3:
        form = tuple(targets.shape) if isinstance(targets, Tensor) else f"a {type(targets).__name__}"
        raise ValueError(
            f"this task needs masks with one class per pixel, and the data have {form} per batch: use data such as "
            "FolderSegmentation, or the task for these data"
        )


def _kind(prediction: Any) -> str:
    keys = f" with the keys {', '.join(map(str, prediction))}" if isinstance(prediction, Mapping) else ""
    return type(prediction).__name__ + keys


def _voc_colours() -> NDArray[np.uint8]:
    """Return the colour map of VOC, `(256, 3)`: bits of a class go to red, green, blue in turn, high bits first."""
    classes, colours = np.arange(256), np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (((classes >> (3 * step + channel)) & 1) << (7 - step)).astype(np.uint8)
    return colours
