"""Checks of settings in files that are not trusted: they may name only classes of splitlearn and torch.

A checkpoint, a results.json or the origin of a bank holds the settings of a run. They may have been written by anyone.
Classes are therefore looked up in a table of known ones, and no name of a file is imported.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torchvision.transforms import v2

from splitlearn import codecs, data, losses, models, quantizers
from splitlearn.discovery import MOVED, moved_path
from splitlearn.files import holds_few

F = TypeVar("F", bound=Callable[..., Any])
BUILDERS = (
    *(
        "backbone",
        "faster_rcnn",
        "frozen_except",
        "keypoint_rcnn",
        "mask_rcnn",
        "mobilenet_v2_cifar",
        "mobilenet_v2_same",
        "replaced",
    ),
    *("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "same_padding", "split", "vgg19_cifar"),
)  # functions of splitlearn.models that make networks
LOADERS: list[Callable[..., Any]] = []  # functions that higher packages register here
PLAIN = (str, int, float, bool, bytes, type(None), Path)
MOST_VALUES = 6_000_000  # elements of an example image in settings; detectors need up to 3 × 1333 × 1333
DEEPEST = 40  # levels of nested settings
WORD = re.compile(r"[\w./+-]*")  # a text that YAML never reads as a list or a mapping


class UntrustedError(ValueError):
    """Settings of a file name an unknown class, or cannot have been written by a run."""


def check_settings(settings: Any, source: str | Path, remedy: str) -> None:
    """Check that settings of a file name only classes of splitlearn and torch.

    Args:
        settings: settings of a section, with `class_path` and `init_args` at any depth.
        source: the file.
        remedy: advice for users with classes of their own.

    Raises:
        UntrustedError: if they name another class; it names the file, the class and the remedy.
    """
    try:
        if not holds_few(settings):
            raise UntrustedError("holds settings without end")
        _check(settings, None, "", 0)
    except UntrustedError as error:
        raise UntrustedError(f"{source} {error}, and code that a file names is not run: {remedy}") from error


def may_be_named(loader: F) -> F:
    """Decorator that adds a function to those that settings in a file may name, for packages that import this one."""
    LOADERS.append(loader)
    return loader


def known() -> dict[str, Callable[..., Any]]:
    """Return the classes and functions that settings in a file may name, by all of their import paths."""
    found = dict(_known_below())
    for loader in LOADERS:
        package = ".".join(loader.__module__.split(".")[:2])
        found |= {f"{room}.{loader.__name__}": loader for room in (package, loader.__module__)}
    return found


@cache
def _known_below() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for room in (codecs, quantizers, losses, models, sys.modules[__package__], data):
        offered = {f"{room.__name__}.{n}": getattr(room, n) for n in room.__all__}
        found |= {path: value for path, value in offered.items() if _can_be_made(value)}
    found |= {f"{models.__name__}.{n}": getattr(models, n) for n in BUILDERS}
    libraries = {
        torch.nn: torch.nn.Module,
        torch.optim: torch.optim.Optimizer,
        torch.optim.lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        v2: torch.nn.Module,
    }
    for library, base in libraries.items():  # by base, since libraries also hold classes such as functools.partial
        classes = {n: value for n, value in vars(library).items() if inspect.isclass(value) and issubclass(value, base)}
        found |= {f"{library.__name__}.{name}": value for name, value in classes.items()}
    found |= {f"{value.__module__}.{value.__qualname__}": value for value in found.values()}
    return found


def _can_be_made(value: Any) -> bool:
    return inspect.isclass(value) and not issubclass(value, BaseException)


def _check(value: Any, hint: Any, name: str, depth: int) -> None:
    """Check a value of an argument with a type hint; None is an unknown type that may be a class."""
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
        if not _is_plain(hint) and not (hint is Any and WORD.fullmatch(value)) and value not in known():
            raise UntrustedError(f"names {value[:80]!r} as {name or 'a class'}, which is none of splitlearn's own")
    elif not (value is None or isinstance(value, (bool, int, float))):
        raise UntrustedError(f"holds a {type(value).__name__} in the place of settings")


def _check_object(value: Mapping[Any, Any], depth: int) -> None:
    path = value.get("class_path")
    names = (path, moved_path(path), MOVED.get(path, "")) if isinstance(path, str) else ()
    target = next((known()[name] for name in names if name in known()), None)
    if target is None or not value.keys() <= {"class_path", "init_args", "dict_kwargs"}:
        raise UntrustedError(f"names the class {str(path)[:80]!r}, which is none of splitlearn's own")
    if value.get("dict_kwargs"):  # they override init_args, and may have values of any kind
        raise UntrustedError(f"gives {path} dict_kwargs, which are not checked as init_args are")
    arguments, hints = value.get("init_args") or {}, _hints(target)
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise UntrustedError("holds arguments without names")
    for name, each in arguments.items():
        if name not in hints:
            raise UntrustedError(f"gives {path} an argument {name[:60]!r} that it does not take")
        _check(each, hints[name], name, depth + 1)
    network = str(arguments.get("name")) if target is models.backbone else ""
    if "." in network.partition("/")[0] and network not in known():
        raise UntrustedError(f"names the network {network[:80]!r}, which is none of splitlearn's own")


@cache
def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the type of each argument, those of base classes included."""
    found: dict[str, Any] = {}
    owners: list[Any] = [target]
    if isinstance(target, type):
        owners = [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
    for owner in reversed(owners):
        try:
            hints = typing.get_type_hints(owner)
            unknown = Any
        except (TypeError, NameError):  # types that are imported only for type checkers
            hints, unknown = {}, None
        own = list(inspect.signature(owner).parameters.values())[isinstance(target, type) :]  # without self
        found |= {p.name: hints.get(p.name, unknown) for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return found


def _is_plain(hint: Any) -> bool:
    """Return whether values of a type are only numbers and texts, so that no text among them names a class."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType) or (inspect.isclass(origin) and issubclass(origin, typing.Collection)):
        return all(each is Ellipsis or _is_plain(each) for each in inner)
    return hint in PLAIN or (inspect.isclass(hint) and issubclass(hint, Enum))
