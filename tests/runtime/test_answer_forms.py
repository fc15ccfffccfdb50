"""Answers have the form of what a task measures."""

from __future__ import annotations

from torch import nn

from splitlearn.codecs import Huffman
from splitlearn.models import NormalizedSeparable, Split, SplitModel, YoloBoxes, resnet8, split
from splitlearn.quantizers import Step
from splitlearn.runtime import ClassMask, RawOutput, TopClasses, answers_of
from splitlearn.runtime.boxes import FoundBoxes
from splitlearn.tasks import BoxAgreement, SelfDistillationTask, StudentScores


def model(net: Split) -> SplitModel:
    return SplitModel(net, Step(0.5), Huffman(), NormalizedSeparable)


def test_what_learns_without_labels_answers_with_what_is_compared() -> None:
    classes = split(resnet8(), "layer2", (3, 32, 32))
    pixels = split(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)), "0", (3, 16, 16))
    assert answers_of(SelfDistillationTask(model(classes))) == TopClasses()
    assert answers_of(SelfDistillationTask(model(pixels))) == ClassMask()
    boxes = answers_of(SelfDistillationTask(model(classes), agreement=BoxAgreement(7, YoloBoxes())))
    assert isinstance(boxes, FoundBoxes)
    assert boxes.num_classes == 7


def test_an_agreement_of_ones_own_leaves_the_output_as_it_is() -> None:
    class Own(StudentScores):
        def update(self, output: object, targets: object) -> None: ...

        def compute(self) -> dict[str, object]:  # type: ignore[override]
            return {}

        def reset(self) -> None: ...

    task = SelfDistillationTask(model(split(resnet8(), "layer2", (3, 32, 32))), agreement=Own())
    assert answers_of(task) == RawOutput()
