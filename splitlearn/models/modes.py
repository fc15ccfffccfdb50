"""Temporary eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and restore the mode of each module afterwards.

    Payloads must not depend on the training mode: batch norm would mix in the other images of the batch and update its
    statistics.
    """
    training = _training(network)
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _training(network: nn.Module) -> list[nn.Module]:
    """Return the modules in training mode; `modules()` takes six times as long."""
    found, waiting = [], [network]
    while waiting:
        module = waiting.pop()
        if module.training:
            found.append(module)
        waiting += [each for each in module._modules.values() if each is not None]
    return found


def deployed(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Run a method of a model as on the device and the edge server: in eval mode and without gradients."""

    @wraps(method)
    def in_eval_mode(model: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with evaluating(model), torch.inference_mode():
            return method(model, *args, **kwargs)

    return in_eval_mode
