"""Forms of answers for the tasks of splitlearn."""

from __future__ import annotations

from functools import singledispatch

from torch import nn

from splitlearn.runtime.boxes import FoundBoxes
from splitlearn.runtime.forms import AnswerForm, ClassMask, RawOutput, TopClasses
from splitlearn.tasks import ClassificationTask, DetectionTask, SegmentationTask


@singledispatch
def answers_of(task: nn.Module) -> AnswerForm:
    """Return the form of answers of a task; `RawOutput`, the unchanged network output, for tasks unknown here.

    For a task of your own, register a function (`functools.singledispatch`).
    """
    return RawOutput()


@answers_of.register
def _(task: ClassificationTask) -> AnswerForm:
    return TopClasses()


@answers_of.register
def _(task: SegmentationTask) -> AnswerForm:
    return ClassMask()


@answers_of.register
def _(task: DetectionTask) -> AnswerForm:
    return FoundBoxes.of(task.detector, task.num_classes)
