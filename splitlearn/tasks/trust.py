"""What settings in a file may make, if nobody has said that the file is trusted: classes that are known, nothing else.

A checkpoint, a results.json or a bank's origin holds the settings of a run. They are data of whoever wrote the file, so
they choose among the classes that splitlearn and torch offer, looked up in a table; nothing that they name is imported.
"""

from __future__ import annotations

import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torchvision.transforms import v2

from splitlearn.models import backbone

ROOMS = ("codecs", "quantizers", "losses", "models", "tasks", "data")  # whose classes settings may name
BUILDERS = (
    *("backbone", "faster_rcnn", "keypoint_rcnn", "mask_rcnn", "mobilenet_v2_cifar", "mobilenet_v2_same", "replaced"),
    *("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "same_padding", "split", "vgg19_cifar"),
)  # functions of splitlearn.models that make networks
LOADERS = ("load_bank", "load_bottleneck")  # of splitlearn.deploy
PLAIN = (str, int, float, bool, bytes, type(None), Path)
MOST_VALUES = 2**24  # of an image that settings may ask to cut a network for
DEEPEST = 40  # settings inside of settings


class UntrustedError(ValueError):
    """Settings of a file that name what is not known, or that ask for what no run asks for."""


def check_settings(settings: Any, source: str | Path, remedy: str) -> None:
    """Refuse settings that come with a file and name a class that is neither splitlearn's nor torch's own.

    Args:
        settings: of a section, `class_path` and `init_args` at any depth.
        source: the file.
        remedy: what to do if the user's own classes are meant.

    Raises:
        UntrustedError: then; it names the file, the class and the remedy.
    """
    try:
        _check(settings, None, "", 0)
    except UntrustedError as error:
        raise UntrustedError(f"{source} {error}, and what a file says is not run: {remedy}") from error


@cache
def known() -> dict[str, Callable[..., Any]]:
    """Return classes and functions that settings may name, by all import paths that they go by."""
    found: dict[str, Callable[..., Any]] = {}
    for name in ROOMS:
        room = importlib.import_module(f"splitlearn.{name}")
        offered = {n: getattr(room, n) for n in room.__all__}
        found |= {f"{room.__name__}.{n}": value for n, value in offered.items() if inspect.isclass(value)}
    for name, functions in (("models", BUILDERS), ("deploy", LOADERS)):
        room = importlib.import_module(f"splitlearn.{name}")
        found |= {f"{room.__name__}.{n}": getattr(room, n) for n in functions}
    libraries = {
        torch.nn: torch.nn.Module,
        torch.optim: torch.optim.Optimizer,
        torch.optim.lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        v2: torch.nn.Module,
    }
    for library, base in libraries.items():  # by base: they have imported other classes, such as functools.partial
        classes = {n: value for n, value in vars(library).items() if inspect.isclass(value) and issubclass(value, base)}
        found |= {f"{library.__name__}.{name}": value for name, value in classes.items()}
    found |= {f"{value.__module__}.{value.__qualname__}": value for value in found.values()}
    return found


def _check(value: Any, hint: Any, name: str, depth: int) -> None:
    """Check a value for an argument of a type; None is a type of which nothing is known but that it may be a class."""
    if depth > DEEPEST:
        raise UntrustedError("nests its settings too deeply")
    if isinstance(value, Mapping) and ("class_path" in value or not _is_plain(hint)):
        _check_object(value, depth)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _check(key, str, name, depth + 1)
            _check(each, hint, name, depth + 1)
    elif isinstance(value, (list, tuple)):
        if name == "example" and all(type(n) is int for n in value) and math.prod(value) > MOST_VALUES:
            raise UntrustedError(f"asks for images of {str(value)[:60]}")
        for each in value:
            _check(each, hint, name, depth + 1)
    elif isinstance(value, str):
        _check_text(value, hint, name)
    elif not (value is None or isinstance(value, (bool, int, float))):
        raise UntrustedError(f"holds a {type(value).__name__} where settings are due")


def _check_text(text: str, hint: Any, name: str) -> None:
    if hint is Any:  # such texts are read as YAML
        try:
            hint = None if isinstance(yaml.safe_load(text), (dict, list)) else str
        except (yaml.YAMLError, RecursionError):
            hint = str
    if not _is_plain(hint) and known().get(text) is None:
        raise UntrustedError(f"names {text[:80]!r} as {name or 'a class'}, which is none of splitlearn's own")


def _check_object(value: Mapping[Any, Any], depth: int) -> None:
    path = value.get("class_path")
    target = known().get(path) if isinstance(path, str) else None
    if target is None or not value.keys() <= {"class_path", "init_args", "dict_kwargs"}:
        raise UntrustedError(f"names the class {str(path)[:80]!r}, which is none of splitlearn's own")
    hints, takes_any = _hints(target)
    arguments, more = value.get("init_args") or {}, value.get("dict_kwargs") or {}
    for name, each in [*_items(arguments), *_items(more)]:
        if name not in hints and not (takes_any and name.isidentifier()):
            raise UntrustedError(f"gives {path} an argument {str(name)[:60]!r} that it does not take")
        _check(each, hints.get(name, Any), name, depth + 1)
    network = str(arguments.get("name")) if target is backbone else ""
    if "." in network.partition("/")[0] and network not in known():
        raise UntrustedError(f"names the network {network[:80]!r}, which is none of splitlearn's own")


def _items(arguments: Any) -> list[tuple[str, Any]]:
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise UntrustedError("holds arguments without names")
    return list(arguments.items())


@cache
def _hints(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return the type of each argument, those of base classes included, and whether it takes any others."""
    found: dict[str, Any] = {}
    owners: list[Any] = [target]
    if isinstance(target, type):
        owners = [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
    for owner in reversed(owners):
        try:
            hints = typing.get_type_hints(owner)
            unknown = Any
        except (TypeError, NameError):  # types that are imported for type checkers alone
            hints, unknown = {}, None
        own = inspect.signature(owner).parameters.values()
        found |= {p.name: hints.get(p.name, unknown) for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    parameters = inspect.signature(target).parameters.values()
    return found, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _is_plain(hint: Any) -> bool:
    """Return whether values of a type are numbers and texts alone, so that no text among them names a class."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType) or (inspect.isclass(origin) and issubclass(origin, typing.Collection)):
        return all(each is Ellipsis or _is_plain(each) for each in inner)
    return hint in PLAIN or (inspect.isclass(hint) and issubclass(hint, Enum))
