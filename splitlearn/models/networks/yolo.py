"""Box decoder of ultralytics' YOLOv5u, YOLOv8 and YOLO11."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from splitlearn.models.networks.box_decoder import BoxDecoder
from splitlearn.outputs import Boxes

OTHER_HEADS = {"Segment", "Pose", "OBB", "Classify", "RTDETRDecoder"}  # of ultralytics, subclasses included
MOST_CANDIDATES = 30_000  # best candidates per image before suppression, as in ultralytics


class YoloBoxes(BoxDecoder):
    """Decode raw YOLO output by non-maximum suppression for each class.

        (B, 4 + C, A) → classes of boxes above the confidence → non-maximum suppression for each class → the best

    The defaults are those of ultralytics for mAP; for visualization, use a confidence of 0.25.

    Args:
        confidence: lowest score of a detection.
        iou: largest intersection over union of two detections of the same class.
        most: largest number of detections per image.
    """

    def __init__(self, confidence: float = 0.001, iou: float = 0.7, most: int = 300) -> None:
        if not (0 <= confidence < 1 and 0 < iou <= 1 and most >= 1):
            raise ValueError(
                f"confidence and iou lie between 0 and 1 and most is at least 1, got {confidence}, {iou} and {most}"
            )
        self.confidence, self.iou, self.most = confidence, iou, most

    def check_network(self, network: nn.Module) -> None:
        """Raise ValueError for ultralytics heads with other outputs than upright boxes, or built-in suppression."""
        for module in network.modules():
            kinds = {cls.__name__ for cls in type(module).__mro__ if cls.__module__.startswith("ultralytics.")}
            if kinds & OTHER_HEADS or ("Detect" in kinds and getattr(module, "end2end", False)):
                raise ValueError(
                    "YoloBoxes reads the head of ultralytics that finds upright boxes, Detect, and this network ends "
                    f"in {type(module).__name__}, whose output means something else: take a model for detection, "
                    "yolov8n say"
                )

    def decode(self, output: Any, num_classes: int) -> list[Boxes]:
        """Return the detected objects of each image, in descending order of score.

        Args:
            output: `(B, 4 + C, A)`, centre x, centre y, width, height in pixels and C scores in [0, 1] for each of A
                boxes; or a tuple that begins with it, as of ultralytics networks in eval mode.
            num_classes: C.

        Raises:
            ValueError: if the output has another structure or number of classes.
        """
        raw = output[0] if isinstance(output, (tuple, list)) and len(output) else output
        if not isinstance(raw, Tensor) or raw.ndim != 3 or raw.shape[1] < 5:
            form = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(f"YoloBoxes reads (B, 4 + classes, boxes), the eval output of a YOLO network, not {form}")
        if raw.shape[1] - 4 != num_classes:
            raise ValueError(
                f"the network tells {raw.shape[1] - 4} classes apart, but num_classes is {num_classes}; if it finds "
                "masks, joints or angles too, YoloBoxes cannot read it"
            )
        low, high = torch.aminmax(raw[:, 4:]) if raw.shape[2] else (torch.zeros(()),) * 2
        if low < 0 or high > 1:  # NaN passes: it finds nothing
            raise ValueError(
                f"scores of classes lie in [0, 1], and in this output they go from {float(low):.3g} to "
                f"{float(high):.3g}: YoloBoxes reads (B, 4 + classes, boxes), the eval output of a YOLO network that "
                "finds boxes alone"
            )
        return [self._decode_image(rows) for rows in raw.float().transpose(1, 2)]

    def _decode_image(self, rows: Tensor) -> Boxes:
        """Return the objects of one image from `(A, 4 + C)`."""
        chances = rows[:, 4:]
        box, label = torch.where(chances > self.confidence)
        scores = chances[box, label]
        if len(scores) > MOST_CANDIDATES:
            scores, best = scores.topk(MOST_CANDIDATES)
            box, label = box[best], label[best]
        xyxy = box_convert(rows[box, :4], "cxcywh", "xyxy")
        kept = batched_nms(xyxy, scores, label, self.iou)[: self.most]
        return Boxes(xyxy[kept], label[kept], scores[kept])
