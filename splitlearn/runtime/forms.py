"""Forms of answers: conversion of a network's output to the answers of an edge server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError
from splitlearn.parts import rebuilt
from splitlearn.runtime.protocol import Answer

BOXES = "splitlearn.runtime.boxes.FoundBoxes"


class AnswerForm(ABC):
    """Base class of the forms of answers. Constructor arguments are attributes of the same names, for a manifest."""

    @abstractmethod
    def __call__(self, output: Any) -> list[Answer | CodecError]:
        """Return one answer for each image.

        Args:
            output: the network's output for a batch: an array or tensor `(B, …)`, or a list that begins with it.
        """

    @abstractmethod
    def agreement(self, one: Answer, other: Answer) -> float:
        """Return the agreement of two answers to one image, 0…1; 1 if they are equal for practical purposes."""


@dataclass(frozen=True)
class TopClasses(AnswerForm):
    """The most likely classes: `classes`, int64 `(top,)`, and `scores`, float32 `(top,)`, their probabilities.

    Attributes:
        top: number of classes; fewer if the network has fewer.
    """

    top: int = 5

    def __call__(self, output: Any) -> list[Answer | CodecError]:  # noqa: D102
        return [self.of_image(logits) for logits in first_array(output)]

    def agreement(self, one: Answer, other: Answer) -> float:
        """Return 1 if the most likely class is the same, else 0."""
        return float(one["classes"][0] == other["classes"][0])

    def of_image(self, logits: NDArray[Any]) -> Answer | CodecError:
        """Return the answer of one image from its logits `(num_classes,)`; CodecError if they hold NaN."""
        values = logits.astype(np.float64)
        if np.isnan(values).any():
            return CodecError("the payload makes the network compute NaN: it is forged, or the weights have diverged")
        order = np.argsort(-values, kind="stable")[: self.top]
        odds = np.exp(values - values.max())
        return {"classes": order.astype(np.int64), "scores": (odds[order] / odds.sum()).astype(np.float32)}


@dataclass(frozen=True)
class ClassMask(AnswerForm):
    """The class of each pixel: `mask`, uint8 `(H, W)`, or int64 with more than 256 classes."""

    def __call__(self, output: Any) -> list[Answer | CodecError]:  # noqa: D102
        logits = first_array(output)
        dtype = np.uint8 if logits.shape[1] <= 256 else np.int64
        return [{"mask": found.astype(dtype)} for found in logits.argmax(1)]

    def agreement(self, one: Answer, other: Answer) -> float:
        """Return the share of pixels of the same class."""
        return float((one["mask"] == other["mask"]).mean())


@dataclass(frozen=True)
class RawOutput(AnswerForm):
    """The unchanged first output of the network: `output`, float array."""

    def __call__(self, output: Any) -> list[Answer | CodecError]:  # noqa: D102
        return [{"output": found} for found in first_array(output)]

    def agreement(self, one: Answer, other: Answer) -> float:
        """Return 1 if no value differs by more than a thousandth of the largest value, else 0."""
        scale = max(1e-12, float(np.abs(one["output"]).max(initial=0.0)))
        return float(np.abs(one["output"] - other["output"]).max(initial=0.0) <= scale / 1000)


def first_array(output: Any) -> NDArray[Any]:
    """Return the first array or tensor of a network's output as an array."""
    while isinstance(output, (list, tuple)):
        output = output[0]
    while isinstance(output, Mapping):
        output = next(iter(output.values()))
    return np.asarray(output)


def form_from(description: Any) -> AnswerForm:
    """Return the form of answers in a manifest; raises as `splitlearn.parts.rebuilt`."""
    if isinstance(description, Mapping) and description.get("class_path") == BOXES:
        import splitlearn.runtime.boxes  # needs torch, which an edge server of a detector has  # noqa: F401
    return rebuilt(description, AnswerForm)
