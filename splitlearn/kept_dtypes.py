"""Modules with tensors that are never cast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn


class Uncast(nn.Module):
    """A module with parameters and buffers that move with the model but keep their dtype.

    `half()`, `double()`, `to(dtype)`, a Trainer's `bf16-true` and state dicts of other dtypes do not change them,
    because both sides must agree on levels and limits, independent of their precision.
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
    """Cast tensors of a state dict, in place, to the dtypes of a module's tensors of the same names."""
    for name, own in mine.items():
        given = state_dict.get(name)
        if isinstance(given, Tensor) and given.dtype != own.dtype:
            state_dict[name] = given.detach().to(own.dtype)


def moved_alone(tensor: Tensor, found: Tensor) -> Tensor:
    """Return `tensor`, which a module's `_apply` has converted to `found`, moved to its device but not to its dtype."""
    return found if found.dtype == tensor.dtype else tensor.to(found.device)


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 if it is in half precision, because sums and squares could overflow."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
