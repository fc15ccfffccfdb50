"""`--model.help` and `--data.help` without a class: help on the config's class, or a list of classes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splitlearn.files import read_yaml
from splitlearn.shipped import located

SECTIONS = ("model", "data")


def bare_help(options: Sequence[str]) -> str | None:
    """Return the section, `model` or `data`, of a help option without a class; None if there is no such option."""
    for option, value in zip(options, [*options[1:], "--"], strict=True):
        section = option.removeprefix("--").removesuffix(".help")
        if option == f"--{section}.help" and section in SECTIONS and value.startswith("-"):
            return section
    return None


def with_class(options: Sequence[str], section: str) -> list[str] | None:
    """Return options for help on the class in the options or their configs; None if there is none."""
    named: str | None = None
    for option, value in zip(options, [*options[1:], ""], strict=True):
        key, _, told = option.partition("=")
        if key == "--config":
            named = _class_in(Path(told or value), section) or named
        elif key == f"--{section}":
            named = _class_of(told or value, Path()) or named
    return None if named is None else [f"--{section}.help={named}"]


def _class_in(config: Path, section: str) -> str | None:
    config = located(config)
    content = read_yaml(config)
    return _class_of(content.get(section) if isinstance(content, dict) else None, config.parent)


def _class_of(content: Any, folder: Path) -> str | None:
    """Return the class of a section: in a mapping, in a separate file, or as its import path."""
    if isinstance(content, str) and (folder / content).is_file():
        content = read_yaml(folder / content)
    named = content.get("class_path") if isinstance(content, dict) else content
    return named if isinstance(named, str) else None


def list_classes(command: str, section: str) -> None:
    """Print splitlearn's classes for a section of a config."""
    from lightning import LightningDataModule, LightningModule

    from splitlearn import data, tasks

    room, base = (tasks, LightningModule) if section == "model" else (data, LightningDataModule)
    print(f"--{section} takes the import path of a class, one of these or your own:\n")
    for name in room.__all__:
        found = getattr(room, name)
        if isinstance(found, type) and issubclass(found, base) and not inspect.isabstract(found):
            print(f"  {room.__name__}.{name}\n      {(found.__doc__ or '').splitlines()[0]}")
    print(f"\nsplitlearn {command} --{section}.help CLASS shows the settings of one.")
