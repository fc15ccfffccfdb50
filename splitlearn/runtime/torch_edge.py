"""The edge part of a model in torch, on a CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils import _pytree as pytree

from splitlearn.codecs import CodecError
from splitlearn.models import CutModel
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.fingerprint import fingerprint_of
from splitlearn.runtime.forms import AnswerForm


class TorchEdge(Edge):
    """Runs the edge part of a model in torch, for GPUs and for networks that cannot be exported to ONNX.

    Args:
        model: a trained model; it is put into eval mode.
        answers: form of the answers.
    """

    def __init__(self, model: CutModel, answers: AnswerForm) -> None:
        self.model, self._answers = model.eval(), answers
        self.fingerprint = fingerprint_of(model)

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return one answer for each payload, in order; a CodecError for a damaged payload or one of another model."""
        try:
            if not all(payloads):
                raise CodecError("a payload is empty, as of an image that exited early: there is nothing to answer")
            output = self.model.decompress(payloads)
        except CodecError as error:  # one of them is damaged, or they are of several sizes
            return [error] if len(payloads) == 1 else [answer for each in payloads for answer in self.answer([each])]
        return self._answers(pytree.tree_map(_on_cpu, output))


def _on_cpu(leaf: Any) -> Any:
    return leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
