"""Forms of answers for the tasks of splitlearn."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from splitlearn.models import CoderModel
from splitlearn.models.pipelines.video_model import unsplit
from splitlearn.runtime.boxes import FoundBoxes
from splitlearn.runtime.forms import AnswerForm, ClassMask, RawOutput, TopClasses, first_array
from splitlearn.tasks import (
    BoxAgreement,
    ClassAgreement,
    ClassificationTask,
    DetectionTask,
    SegmentationTask,
    SelfDistillationTask,
)


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


@answers_of.register
def _(task: SelfDistillationTask) -> AnswerForm:
    return _compared(task.agreement, task.model)


@singledispatch
def _compared(agreement: nn.Module, model: CoderModel) -> AnswerForm:
    """Return the form of answers that an agreement compares."""
    return RawOutput()


@_compared.register
def _(agreement: ClassAgreement, model: CoderModel) -> AnswerForm:
    output = first_array(unsplit(model, torch.zeros(1, *model.net.input_shape)))
    return ClassMask() if output.ndim == 4 else TopClasses() if output.ndim == 2 else RawOutput()


@_compared.register
def _(agreement: BoxAgreement, model: CoderModel) -> AnswerForm:
    return FoundBoxes.of(agreement.boxes.detector, agreement.boxes.num_classes)
