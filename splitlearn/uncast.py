"""Modules that keep the precision of their tensors, whatever the model around them is cast to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn


class Uncast(nn.Module):
    """A module whose parameters and buffers move with the model, but are never cast.

    `half()`, `double()`, `to(dtype)`, a Trainer's `bf16-true` and state dicts of other types leave their types as they
    are: levels and limits are what two sides agree on, and the same whatever either computes with.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            return moved_alone(tensor, fn(tensor))

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        keep_types(state_dict, self.state_dict(prefix=prefix, keep_vars=True))
        super()._load_from_state_dict(state_dict, prefix, *args)


def keep_types(state_dict: dict[str, Any], mine: Mapping[str, Any]) -> None:
    """Bring those tensors of a state dict that a module has, by name, to the types that they have in it."""
    for name, own in mine.items():
        given = state_dict.get(name)
        if isinstance(given, Tensor) and given.dtype != own.dtype:
            state_dict[name] = given.detach().to(own.dtype)


def moved_alone(tensor: Tensor, found: Tensor) -> Tensor:
    """Return what a module's `_apply` has found for a tensor, moved, but not cast."""
    return found if found.dtype == tensor.dtype else tensor.to(found.device)


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 if its floats are narrower, as sums and squares of these overflow or are rounded."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
