"""What is logged when the tail finds objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from splitlearn.models import BoxDecoder, CompressionModel
from splitlearn.outputs import Boxes
from splitlearn.tasks.payload import PayloadTask

Batch = tuple[Tensor, list[Boxes]]


class DetectionTask(PayloadTask):
    """Test a detector with real bytes in its middle; nothing trains here.

        images → compress ═ payloads ═ decompress → raw output → detector → boxes → mean average precision

    Every image goes through its payload. `test/map` is COCO's: the mean over the classes that occur and over IoU 0.50,
    0.55, … 0.95, of the best 100 detections an image; `test/map_50` is that at IoU 0.50 alone. Both are −1 if no image
    has an object.

    Args:
        model: the network with bytes in its middle, e.g. a `SplitModel` of YOLO.
        num_classes: number of classes.
        detector: makes boxes of the network's output, e.g. `YoloBoxes()`.

    Raises:
        ImportError: if faster-coco-eval, which computes the metric, is not installed.

    Reference:
        Lin et al. 2014; Carra & Neglia 2023, Sec. V-B.
    """

    def __init__(self, model: CompressionModel, num_classes: int, detector: BoxDecoder) -> None:
        if find_spec("faster_coco_eval") is None:
            raise ImportError("DetectionTask needs faster-coco-eval: pip install 'splitlearn[detection]'")
        super().__init__(model)
        self.num_classes = num_classes
        self.detector = detector
        self.precision = MeanAveragePrecision(backend="faster_coco_eval")
        self.precision.warn_on_many_detections = False  # of the detector's 300, COCO's metric takes the best 100

    def forward(self, images: Tensor) -> list[Boxes]:
        """Return the objects in images `(B, 3, H, W)` in [0, 1], by the pass without bytes."""
        return self.detector.decode(self.model(images), self.num_classes)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Compare what is found in images that went through their payloads with what is there."""
        images, truth = batch
        for boxes in truth:
            if len(boxes) and (largest := int(boxes.labels.max())) >= self.num_classes:
                raise ValueError(
                    f"a test image has an object of class {largest}, but num_classes is {self.num_classes}: "
                    "the classes of network and data must be the same"
                )
        found = self.detector.decode(self.measured(images), self.num_classes)
        self.precision.update([_as_found(boxes) for boxes in found], [_as_there(boxes) for boxes in truth])

    def on_test_epoch_end(self) -> None:
        """Log the mean average precision over all test images."""
        values = self.precision.compute()
        self.log_dict({f"test/{name}": values[name].float() for name in ("map", "map_50")})
        self.precision.reset()

    def precision_of(self, found: Iterable[Boxes], truth: Iterable[Boxes]) -> float:
        """Return COCO's mean average precision, 0…1, of what was found in images against what is there."""
        metric = self.precision.clone()
        metric.reset()
        metric.update([_as_found(boxes) for boxes in found], [_as_there(boxes) for boxes in truth])
        return float(metric.compute()["map"])

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Boxes]:
        """Return the objects found in each image, by way of payloads."""
        return self.detector.decode(self.model.decompress(self.model.compress(batch[0])), self.num_classes)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each object: number of the image, class, its name, score, box in pixels of the input."""
        rows: list[list[Any]] = [["image", "class", "name", "score", "left", "top", "right", "bottom"]]
        for i, boxes in enumerate(boxes for batch in predictions for boxes in batch):
            found = _as_found(boxes)
            columns = found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist()
            for label, score, xyxy in zip(*columns, strict=True):
                name = class_names[label] if class_names else ""
                rows.append([i, label, name, f"{score:.4f}", *(f"{value:.2f}" for value in xyxy)])
        return rows

    def prepare_data(self) -> None:
        """Refuse `fit` and `validate` before any data are read."""
        if self.trainer.state.fn in ("fit", "validate"):
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError("a DetectionTask only measures a detector that is trained already: go straight to `test`")

    # Lightning looks for these before it calls `prepare_data`, and its own words for their absence are obscure
    training_step = validation_step = configure_optimizers = _refuse


def _as_found(boxes: Boxes) -> dict[str, Tensor]:
    assert boxes.scores is not None, "a detector gives scores"
    return {"boxes": boxes.xyxy, "scores": boxes.scores, "labels": boxes.labels}


def _as_there(boxes: Boxes) -> dict[str, Tensor]:
    crowd = torch.zeros_like(boxes.labels) if boxes.crowd is None else boxes.crowd.long()
    return {"boxes": boxes.xyxy, "labels": boxes.labels, "iscrowd": crowd}
