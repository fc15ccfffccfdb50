"""Options of a command: conversion of command-line arguments to those of a typed function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.discovery import current_path
from splitlearn.shipped import located

T = TypeVar("T")
N = TypeVar("N", int, float)
READ = ("--config", "--data")  # options whose values may be paths of configs
TRAINER_WORDS = ("--config", "--model", "--data", "--trainer", "--seed_everything")


def run_function(function: Callable[..., None], arguments: list[str]) -> None:
    """Call `function` with the options after the command's name; raises ArgumentError if they do not fit its signature.

    If the function has an argument `words`, this receives the options of the trainer's config; an argument `folders`
    receives the words before the first option.
    """
    from jsonargparse import ArgumentParser

    # for types that are text, jsonargparse would import all that the function's module names under TYPE_CHECKING: torch
    function.__annotations__ = get_type_hints(function)
    own = inspect.signature(function).parameters
    beside: dict[str, Any] = {}
    command, *options = arguments
    options = [_with_underscores(word) for word in options]
    if "folders" in own:
        first = next((place for place, word in enumerate(options) if word.startswith("-")), len(options))
        beside["folders"], options = [Path(word) for word in options[:first]], options[first:]
    if "words" in own:
        beside["words"], options = divide(options, [w for w in TRAINER_WORDS if w.removeprefix("--") not in own])
    options = _with_values(options, [name for name, each in own.items() if each.annotation is bool])
    options = _by_first_field(options, {name: each.annotation for name, each in own.items()})
    given = [option.split("=")[0] for option in options if option.startswith("--")]
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise UsageError(f"{twice[0]} is given more than once")
    about = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
    program = f"splitlearn {command}" + (" FOLDER …" if "folders" in own else "")
    parser = ArgumentParser(prog=program, exit_on_error=False, allow_abbrev=False, description=about)
    names = parser.add_function_arguments(function, as_positional=False, fail_untyped=True, skip=set(beside))
    parsed = parser.instantiate_classes(parser.parse_args(options))
    function(**beside, **{name: parsed[name] for name in names})


def _with_values(options: Sequence[str], switches: Sequence[str]) -> list[str]:
    """Return options with the value `true` behind each bare one that is true or false: `--time` is `--time true`."""
    found = []
    for option, following in zip(options, [*options, "--"][1:], strict=True):
        found.append(option)
        if option.removeprefix("--") in switches and option.startswith("--") and following.startswith("--"):
            found.append("true")
    return found


def _by_first_field(options: Sequence[str], types: Mapping[str, Any]) -> list[str]:
    """Return options with a dataclass's name alone as that of its first field: `--picture webp`, `--picture.format`."""
    first = {f"--{name}": f"--{name}.{fields(cls)[0].name}" for name, cls in types.items() if is_dataclass(cls)}
    return ["".join((first.get(name, name), *rest)) for name, *rest in (o.partition("=") for o in options)]


def _with_underscores(word: str) -> str:
    """Return a command-line argument; dashes in the name of an option become underscores."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def with_shipped(words: Sequence[str]) -> list[str]:
    """Return command-line arguments with the paths of shipped configs that the working directory does not have."""
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        value = value if equals and name in READ else word if before in READ else ""
        place = located(value)
        found.append(word if place == Path(value) else word.removesuffix(value) + str(place))
    return found


def divide(words: Sequence[str], sections: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of some sections, e.g. `--trainer`, with their values, and all other arguments."""
    chosen: list[str] = []
    others: list[str] = []
    mine = others
    for word in words:
        if word.startswith("--"):
            mine = chosen if word.split("=")[0].split(".")[0] in sections else others
        mine += word.split("=", 1) if mine is chosen and word.startswith("--") else [word]
    return chosen, others


def numbers(
    option: str, text: str | None, takes: str, kind: type[N], are_legal: Callable[[list[N]], bool] = lambda _: True
) -> list[N]:
    """Return the comma-separated numbers of an option.

    Args:
        option: name of the option, with dashes.
        text: value of the option; None for an empty list.
        takes: description of legal values, for the error.
        kind: int or float.
        are_legal: check of a non-empty list of numbers.

    Raises:
        UsageError: if they are not numbers, or not legal.
    """
    if text is None:
        return []
    try:
        found = [kind(word) for word in text.split(",")]
        if are_legal(found):
            return found
    except ValueError:
        pass
    raise UsageError(f"{option} takes {takes}; got {text!r}")


def make_folder(out: Path, file: bool = False) -> None:
    """Create the folder of a command's --out, or the parent folder if it is a file; raise UsageError on failure."""
    try:
        (out.parent if file else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be {'written' if file else 'made'}: {error.strerror}") from error


def instance(option: str, path: str, room: ModuleType | None, base: type[T], **arguments: Any) -> T:
    """Return a new object of the class at an import path; a name without dots is searched in `room`.

    Raises UsageError if the class does not exist, or raises an error on the arguments.
    """
    module, _, name = current_path(path).rpartition(".")
    if not module and room is not None:
        names = {n.lower(): n for n in room.__all__ if _is_concrete(getattr(room, n), base)}
        if name.lower() not in names:
            near = did_you_mean(name, names.values())
            raise UsageError(f"--{option} has no {name!r}{near}; it takes {', '.join(names.values())}")
        module, name = room.__name__, names[name.lower()]
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--{option} {path} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        owner = ".".join(base.__module__.split(".")[:2])  # the package that exports it
        raise UsageError(
            f"--{option} takes the import path of a class derived from {owner}.{base.__name__}, got {path}"
        )
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{option} {path} cannot be made: {error}") from error


def _is_concrete(cls: object, base: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
