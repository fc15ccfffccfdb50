"""What is logged when the tail finds objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from splitlearn.metrics import ObjectScores
from splitlearn.models import BoxDecoder, CompressionModel
from splitlearn.outputs import Boxes, check_num_classes
from splitlearn.tasks.checks import check_labels
from splitlearn.tasks.payload import PayloadTask
from splitlearn.tasks.precision import full_precision

Batch = tuple[Tensor | Sequence[Tensor], list[Boxes]]


class DetectionTask(PayloadTask):
    """Test a detector with real bytes in its middle; nothing trains here.

        images → compress ═ payloads ═ decompress → raw output → detector → boxes → mean average precision

    Every image goes through its payload. Images are a batch, or a list of any sizes if the network takes these, as
    torchvision's detectors do. `test/map` and `test/map_50` are COCO's scores of boxes, `test/map_masks` and
    `test/map_masks_50` those of masks; see `ObjectScores`. Mixed precision is off: it would round boxes.

    Args:
        model: the network with bytes in its middle, e.g. a `SplitModel` of YOLO.
        num_classes: number of classes.
        detector: makes boxes of the network's output, e.g. `YoloBoxes()` or `TorchvisionBoxes()`.
        masks: whether masks are scored too: network and data must have them.

    Raises:
        ValueError: if the detector does not read what the network makes.
        ImportError: if faster-coco-eval, which computes the metric, is not installed.

    Reference:
        Lin et al. 2014; Carra & Neglia 2023, Sec. V-B.
    """

    finds_boxes: ClassVar[bool] = True

    def __init__(self, model: CompressionModel, num_classes: int, detector: BoxDecoder, masks: bool = False) -> None:
        super().__init__(model)
        check_num_classes(num_classes)
        detector.check_network(model)
        self.num_classes = num_classes
        self.detector = detector
        self.scores = ObjectScores(masks)

    def forward(self, images: Tensor | Sequence[Tensor]) -> list[Boxes]:
        """Return the objects in images in [0, 1], a batch or a list, by the pass without bytes."""
        return self.detector.decode(self.model(images), self.num_classes)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Compare what is found in images that went through their payloads with what is there."""
        images, truth = batch
        check_labels(truth, self.num_classes)
        with full_precision(self.device):
            found = self.detector.decode(self.predict_and_log_sizes(images), self.num_classes)
        self.scores.update(found, truth)

    def on_test_epoch_end(self) -> None:
        """Log the scores over all test images."""
        self.log_dict({f"test/{name}": value for name, value in self.scores.compute().items()})
        self.scores.reset()

    def precision_of(self, found: Iterable[Boxes], truth: Iterable[Boxes]) -> float:
        """Return COCO's mean average precision, 0…1, of what was found in images against what is there."""
        scores = ObjectScores()
        scores.update(list(found), list(truth))
        return float(scores.compute()["map"])

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Boxes]:
        """Return the objects found in each image, by way of payloads."""
        with full_precision(self.device):
            return self.detector.decode(self.model.decompress(self.model.compress(batch[0])), self.num_classes)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each object: number of the image, class, its name, score, box in pixels of the input."""
        rows: list[list[Any]] = [["image", "class", "name", "score", "left", "top", "right", "bottom"]]
        for i, boxes in enumerate(boxes for batch in predictions for boxes in batch):
            assert boxes.scores is not None, "a detector gives scores"
            columns = boxes.labels.tolist(), boxes.scores.tolist(), boxes.xyxy.tolist()
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
