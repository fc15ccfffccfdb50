"""Modules that keep the precision of their tensors, whatever the model around them is cast to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class Uncast(nn.Module):
    """A module whose parameters and buffers move with the model, but are never cast.

    `half()`, `double()`, `to(dtype)`, a Trainer's `bf16-true` and state dicts of other types leave their types as they
    are: levels and limits are what two sides agree on, and the same whatever either computes with.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, mine in self.state_dict(prefix=prefix, keep_vars=True).items():
            given = state_dict.get(name)
            if isinstance(given, Tensor) and given.dtype != mine.dtype:
                state_dict[name] = given.detach().to(mine.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
