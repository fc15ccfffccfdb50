"""Lightning module for tests of object detectors."""

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
    """Test an object detector with real payloads, without training.

        images → compress ═ payloads ═ decompress → raw output → detector → boxes → mean average precision

    Images are a batch, or a list of images of any sizes for networks such as torchvision's detectors. The metrics are
    COCO's: `test/map` and `test/map_50` of boxes, `test/map_masks` and `test/map_masks_50` of masks (`ObjectScores`).
    Mixed precision is off, since it would round boxes.

    Args:
        model: network that compresses images to payloads, e.g. a `SplitModel` of YOLO.
        num_classes: number of classes.
        detector: converts the network's output to boxes, e.g. `YoloBoxes()` or `TorchvisionBoxes()`.
        masks: whether masks are scored too; network and data must have masks.

    Raises:
        ValueError: if the detector cannot read the network's output.
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
        """Return the objects in images in [0, 1], a batch or a list, from the differentiable pass."""
        return self.detector.decode(self.model(images), self.num_classes)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Compare the predictions from payloads with the ground truth."""
        images, truth = batch
        check_labels(truth, self.num_classes)
        with full_precision(self.device):
            predictions = self.detector.decode(self.predict_and_log_sizes(images), self.num_classes)
        self.scores.update(predictions, truth)

    def on_test_epoch_end(self) -> None:
        """Log the scores over all test images."""
        self.log_dict({f"test/{name}": value for name, value in self.scores.compute().items()})
        self.scores.reset()

    def precision_of(self, predictions: Iterable[Boxes], truth: Iterable[Boxes]) -> float:
        """Return COCO's mean average precision, 0…1, of predictions against the ground truth."""
        scores = ObjectScores()
        scores.update(list(predictions), list(truth))
        return float(scores.compute()["map"])

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Boxes]:
        """Return the objects found in each image, sent as its payload."""
        with full_precision(self.device):
            return self.detector.decode(self.model.decompress(self.model.compress(batch[0])), self.num_classes)

    def prediction_table(self, predictions: Sequence[Any], class_names: Sequence[str] | None) -> list[list[Any]]:
        """Return a row for each object: image number, class, name of the class, score, box in pixels of the input."""
        rows: list[list[Any]] = [["image", "class", "name", "score", "left", "top", "right", "bottom"]]
        for i, boxes in enumerate(boxes for batch in predictions for boxes in batch):
            assert boxes.scores is not None, "a detector gives scores"
            columns = boxes.labels.tolist(), boxes.scores.tolist(), boxes.xyxy.tolist()
            for label, score, xyxy in zip(*columns, strict=True):
                name = class_names[label] if class_names else ""
                rows.append([i, label, name, f"{score:.4f}", *(f"{value:.2f}" for value in xyxy)])
        return rows

    def prepare_data(self) -> None:
        """Refuse `fit` and `validate` before data are read."""
        if self.trainer.state.fn in ("fit", "validate"):
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError("a DetectionTask only measures a trained detector: run `test`")

    # defined since Lightning looks for them before `prepare_data`, with an obscure message if they are absent
    training_step = validation_step = configure_optimizers = _refuse
