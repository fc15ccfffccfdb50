"""Bottlenecks, quantizers and codecs to and from their description in a manifest; only imported classes are built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from splitlearn.discovery import loaded_classes, moved_path, public_path
from splitlearn.outputs import init_args

T = TypeVar("T")
LARGEST = 2**31 - 1  # largest valid number in a manifest


class PartError(ValueError):
    """Invalid description of a part."""


def part_settings(instance: object) -> dict[str, Any]:
    """Return class and arguments of a part, for a manifest."""
    return {"class_path": public_path(type(instance)), "init_args": init_args(instance)}


def rebuilt(description: Any, base: type[T]) -> T:
    """Return a new part from its description in a manifest; a file names an imported subclass of `base`, or none.

    Raises PartError if the description is invalid, or its class is not known; and any error of the class on its
    arguments.
    """
    cls, arguments = _read(description, base)
    return cls(**arguments)


def rebuilt_module(
    description: Any, base: type[T], tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> T:
    """Return a module from its description in a manifest, with its tensors, without gradients and in eval mode.

    Classes of splitlearn are first built on the meta device, to detect forged sizes before memory is allocated. Raises
    PartError if the description is invalid, its class is not known, or the tensors do not fit; and any error of the
    class on its arguments.
    """
    cls, arguments = _read(description, base)
    if cls.__module__.startswith("splitlearn."):
        with torch.device("meta"):
            _check_tensors(cast("nn.Module", cls(**arguments)), tensors)
    part = cls(**arguments)
    module = cast("nn.Module", part).to(dtype)
    _check_tensors(module, tensors)
    module.load_state_dict(dict(tensors))
    module.requires_grad_(False).eval()
    return part


def _read(description: Any, base: type[T]) -> tuple[type[T], dict[str, Any]]:
    path = description.get("class_path") if isinstance(description, dict) else None
    if not isinstance(path, str):
        raise PartError(f"it describes no {base.__name__} by class_path and init_args")
    classes = loaded_classes(base)
    if (cls := classes.get(path) or classes.get(moved_path(path))) is None:
        raise PartError(
            f"it names {path}, which is no {base.__name__} known here: import its module first, if you trust it"
        )
    arguments = description.get("init_args", {})
    if not isinstance(arguments, dict) or not all(map(_is_plain, arguments.values())):
        raise PartError(f"the arguments of {path} are not plain numbers and texts")
    return cls, arguments


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 2 and len(value) <= 4096 and all(_is_plain(each, depth + 1) for each in value)
    if isinstance(value, int):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _check_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    differing = wanted.keys() ^ tensors.keys()
    differing |= {name for name in wanted.keys() & tensors.keys() if _form(wanted[name]) != _form(tensors[name])}
    if differing:
        raise PartError(f"its tensors are not those of {type(module).__name__}: {', '.join(sorted(differing)[:3])}")


def _form(tensor: Tensor) -> tuple[torch.Size, bool]:
    return tensor.shape, tensor.is_floating_point()
