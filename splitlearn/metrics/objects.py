"""COCO's metrics of object detection."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from splitlearn.outputs import Boxes

NAMES = {"map": "map", "map_50": "map_50"}
NAMES_WITH_MASKS = {
    "map": "bbox_map",
    "map_50": "bbox_map_50",
    "map_masks": "segm_map",
    "map_masks_50": "segm_map_50",
}


class ObjectScores(MeanAveragePrecision):
    """COCO's mean average precision of boxes, and of masks.

    | key | precision of | at an intersection over union (IoU) of |
    |---|---|---|
    | `map` | boxes | 0.50, 0.55, …, 0.95 (mean) |
    | `map_50` | boxes | 0.50 |
    | `map_masks` | masks | 0.50, 0.55, …, 0.95 (mean) |
    | `map_masks_50` | masks | 0.50 |

    Each is a mean over the classes that occur, from the best 100 detections of each image. Values lie in 0…1, or are −1
    if no image has an object.

    Args:
        masks: whether masks are scored too.

    Raises:
        ImportError: if faster-coco-eval, which computes the metric, is not installed.

    Reference:
        Lin et al. 2014.
    """

    def __init__(self, masks: bool = False) -> None:
        if find_spec("faster_coco_eval") is None:
            raise ImportError("scores of objects need faster-coco-eval: pip install 'splitlearn[detection]'")
        super().__init__(iou_type=("bbox", "segm") if masks else "bbox", backend="faster_coco_eval")
        self.masks = masks
        self.warn_on_many_detections = False  # COCO's metric uses the best 100 of a detector's 300

    def update(self, predictions: Sequence[Boxes], truth: Sequence[Boxes]) -> None:  # type: ignore[override]
        """Add several images: their predictions, with scores, and the ground truth.

        Raises:
            ValueError: if masks are scored, and the objects of an image have none.
        """
        super().update([self._predicted(boxes) for boxes in predictions], [self._true(boxes) for boxes in truth])

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of all images counted so far."""
        values = super().compute()
        names = NAMES_WITH_MASKS if self.masks else NAMES
        return {name: values[key].float() for name, key in names.items()}

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather the counts of all processes; torchmetrics' own way needs equally many images in each."""
        names = list(self._defaults)
        mine = {
            name: [each.cpu() if isinstance(each, Tensor) else each for each in getattr(self, name)] for name in names
        }
        gathered: list[Any] = [None] * torch.distributed.get_world_size(process_group)
        torch.distributed.all_gather_object(gathered, mine, process_group)
        for name in names:
            setattr(self, name, [each for process in gathered for each in process[name]])

    def _predicted(self, boxes: Boxes) -> dict[str, Tensor]:
        assert boxes.scores is not None, "a detector gives scores"
        return {"boxes": boxes.xyxy, "scores": boxes.scores, "labels": boxes.labels, **self._masks(boxes, "detector")}

    def _true(self, boxes: Boxes) -> dict[str, Tensor]:
        crowd = torch.zeros_like(boxes.labels) if boxes.crowd is None else boxes.crowd.long()
        return {"boxes": boxes.xyxy, "labels": boxes.labels, "iscrowd": crowd, **self._masks(boxes, "data set")}

    def _masks(self, boxes: Boxes, source: str) -> dict[str, Tensor]:
        if not self.masks:
            return {}
        if boxes.masks is None:
            raise ValueError(f"masks cannot be scored, since the {source} has only boxes: set `masks` to false")
        return {"masks": boxes.masks}
