"""Form of the answers of detectors; needs torch for non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from splitlearn.codecs import CodecError
from splitlearn.models import TorchvisionBoxes, YoloBoxes  # noqa: F401, the decoders that a manifest may name
from splitlearn.models.networks.box_decoder import BoxDecoder
from splitlearn.outputs import check_num_classes
from splitlearn.parts import part_settings, rebuilt
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.forms import AnswerForm

SURE, NEAR = 0.25, 2.0  # least score of a box that is compared, and largest distance of its sides in pixels


class FoundBoxes(AnswerForm):
    """The objects of one image: `boxes`, float32 `(N, 4)` in pixels, `classes`, int64 `(N,)`, `scores`, float32 `(N,)`.

    Args:
        num_classes: number of classes.
        class_path: import path of a `BoxDecoder`, which must have been imported.
        init_args: its arguments, as pairs of name and value.
    """

    def __init__(self, num_classes: int, class_path: str, init_args: list[list[Any]]) -> None:
        check_num_classes(num_classes)
        self.num_classes, self.class_path, self.init_args = num_classes, class_path, init_args
        self._decoder = rebuilt({"class_path": class_path, "init_args": dict(init_args)}, BoxDecoder)

    @classmethod
    def of(cls, decoder: BoxDecoder, num_classes: int) -> FoundBoxes:
        """Return the form of a detector's answers."""
        about = part_settings(decoder)
        return cls(num_classes, about["class_path"], [list(pair) for pair in about["init_args"].items()])

    def __call__(self, output: Any) -> list[Answer | CodecError]:  # noqa: D102
        decoded = self._decoder.decode(_tensors(output), self.num_classes)
        found: list[Answer | CodecError] = []
        for boxes in decoded:
            assert boxes.scores is not None
            arrays = {"boxes": boxes.xyxy, "classes": boxes.labels, "scores": boxes.scores}
            found.append({name: tensor.cpu().numpy() for name, tensor in arrays.items()})
        return found

    def agreement(self, one: Answer, other: Answer) -> float:
        """Return the share of boxes with a score of 0.25 or more that both answers have."""
        pairs = [_matched(one, other), _matched(other, one)]
        found, looked_at = (sum(numbers) for numbers in zip(*pairs, strict=True))
        return found / looked_at if looked_at else 1.0


def _matched(one: Answer, other: Answer) -> tuple[int, int]:
    """Return how many boxes above the score limit the other answer has too (class, two pixels), and their number."""
    sure = np.flatnonzero(one["scores"] >= SURE)
    found = 0
    for n in sure:
        same = other["classes"] == one["classes"][n]
        found += bool((same & (np.abs(other["boxes"] - one["boxes"][n]).max(1, initial=0.0) <= NEAR)).any())
    return found, len(sure)


def _tensors(output: Any) -> Any:
    if isinstance(output, list) and output and isinstance(output[0], np.ndarray):
        return tuple(map(torch.from_numpy, output))
    return output
