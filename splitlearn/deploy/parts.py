"""Modules from their description in a manifest, with their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from splitlearn.parts import PartError, class_and_arguments

T = TypeVar("T")


def rebuilt_module(
    description: Any, base: type[T], tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> T:
    """Return a module built from its description in a manifest, with its tensors, without gradients, in eval mode.

    Classes of splitlearn are first built on the meta device, to detect forged sizes before memory is allocated. Raises
    PartError if the description is invalid, its class is not known, or the tensors do not fit; and any error of the
    class on its arguments.
    """
    cls, arguments = class_and_arguments(description, base)
    if cls.__module__.startswith("splitlearn."):
        with torch.device("meta"):
            _check_tensors(cast("nn.Module", cls(**arguments)), tensors)
    part = cls(**arguments)
    module = cast("nn.Module", part).to(dtype)
    _check_tensors(module, tensors)
    module.load_state_dict(dict(tensors))
    module.requires_grad_(False).eval()
    return part


def _check_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    differing = wanted.keys() ^ tensors.keys()
    differing |= {name for name in wanted.keys() & tensors.keys() if _form(wanted[name]) != _form(tensors[name])}
    if differing:
        raise PartError(f"its tensors are not those of {type(module).__name__}: {', '.join(sorted(differing)[:3])}")


def _form(tensor: Tensor) -> tuple[torch.Size, bool]:
    return tensor.shape, tensor.is_floating_point()
