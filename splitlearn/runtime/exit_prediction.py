"""Prediction of an early exit, which answers an image on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from splitlearn.codecs import CodecError
from splitlearn.runtime.forms import AnswerForm, TopClasses
from splitlearn.runtime.protocol import Answer


@dataclass(frozen=True)
class ExitPrediction:
    """Prediction of an early exit on the device, for an image that is not sent.

    Attributes:
        exit: number of the exit, from 0.
        logits: float array `(num_classes,)`.
        confidence: confidence of the exit, in [0, 1].
        form: form of the answer, that of the edge server.
    """

    exit: int
    logits: NDArray[Any]
    confidence: float
    form: AnswerForm = field(default_factory=TopClasses)

    def answer(self) -> Answer:
        """Return the answer that an edge server would make of these logits.

        Raises:
            CodecError: if the logits hold NaN.
        """
        [found] = self.form(self.logits[None])
        if isinstance(found, CodecError):
            raise found
        return found
