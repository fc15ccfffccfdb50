"""Small frozen records that cross rooms. This module imports nothing of splitlearn."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SplitOutput:
    """What one differentiable pass through a split network leaves behind, for losses and metrics.

    Attributes:
        prediction: the model's output, computed from `features_hat` alone.
        features: the crossing tensors as the frozen head made them, each `(B, …)`.
        latents: the encoder's outputs before quantization, one per float tensor that crosses.
        features_hat: the reconstructions that the tail was given, shaped like `features`.
    """

    prediction: Any
    features: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    features_hat: tuple[Tensor, ...]


def init_args(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of `instance`, read from its attributes of the same names.

    Exports write an object's class and these arguments into their manifest, so a class that can be exported keeps each
    constructor argument under its own name.

    Raises:
        AttributeError: if an argument was not kept; the message names it.
    """
    parameters = list(inspect.signature(type(instance).__init__).parameters.values())[1:]
    return {p.name: getattr(instance, p.name) for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
