"""Parses config files and command-line arguments to settings, and builds the task and data module from settings.

LightningCLI (`trainer`) parses the arguments of `fit`, `validate`, `test` and `predict`. All other commands and scripts
use this module.
"""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace, get_loader, set_loader
from lightning import LightningDataModule, LightningModule, Trainer

from splitlearn.config.messages import UsageError, one_sentence
from splitlearn.config.options import with_shipped
from splitlearn.config.parsers import ConfigParser
from splitlearn.config.precheck import KEYS, check_trainer_arguments
from splitlearn.discovery import with_current_paths
from splitlearn.tasks import quieten

ALL = ("trainer", "model", "data")  # sections with classes
TASK = ("model", "data")
CURRENT_PATHS = "splitlearn"  # parser mode that accepts class paths of earlier versions

_load_yaml = get_loader("yaml")
set_loader(CURRENT_PATHS, lambda text: with_current_paths(_load_yaml(text)), (yaml.YAMLError,))


def build_task(config: Path, data_root: Path | None, overrides: Sequence[str] = ()) -> tuple[LightningModule, Any]:
    """Return the task and the data module of a config, built from its sections `model` and `data`.

    Other sections of the `fit` and `test` commands, such as `trainer` and `checkpoint`, are ignored. Seeds torch's
    global generator with the config's `seed_everything`.

    Args:
        config: a config file of `splitlearn test`.
        data_root: folder of the images, in place of the config's `data.root`.
        overrides: further command-line arguments, e.g. `["--model.model.net.at", "layer1"]`.

    Raises:
        UsageError: if the config is missing, has an unknown section, or has invalid settings.
    """
    settings = _of_config(config, data_root, overrides)
    torch.manual_seed(seed_of(settings))
    built = instantiated(settings, TASK)
    return built.model, built.data


def config_settings(config: Path, data_root: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings from which `build_task` builds, and build no objects; arguments as for `build_task`.

    Returns:
        Nested dicts and lists with the sections `model` and `data`, defaults included.

    Raises:
        UsageError: if the config is missing or not valid.
    """
    return plain(_of_config(config, data_root, overrides), TASK)


def task_from(settings: Mapping[str, Any]) -> LightningModule:
    """Return the task of the section `model` of a config, a dict with `class_path` and `init_args`."""
    parsed_settings = _parser(("model",)).parse_object({"model": with_current_paths(settings)})
    task: LightningModule = instantiated(parsed_settings, ("model",)).model
    return task


def data_from(settings: Mapping[str, Any], data_root: Path | None = None) -> Any:
    """Return the data module of the section `data` of a config; `data_root` replaces its folder of images."""
    place = {} if data_root is None else {"root": str(data_root)}
    own = with_current_paths(dict(settings))
    given = own | {"init_args": own.get("init_args", {}) | place}
    return instantiated(_parser(("data",)).parse_object({"data": given}), ("data",)).data


def config_of_words(words: Sequence[str]) -> dict[str, Any]:
    """Return the config, as plain data with defaults, that arguments of `splitlearn fit` give; raises as `parsed`."""
    return plain(parsed(words))


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the `flat_settings` of the config that arguments of `splitlearn fit` give; raises as `parsed`."""
    return flat_settings(config_of_words(words))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config by dotted path, without `data.root`."""
    found = {path: value for name, each in config.items() for path, value in _flat(name, each)}
    found.pop("data.root", None)
    return found


def parsed(words: Sequence[str], sections: Sequence[str] = ALL) -> Namespace:
    """Return the settings of command-line arguments `--config FILE …`, where FILE may be one that ships.

    Class paths of earlier versions are replaced by current ones. Only `sections` are checked and completed with
    defaults; others are kept unchanged. Raises UsageError if settings are invalid.
    """
    try:
        found: Namespace = _parser(sections).parse_args(with_current_paths(with_shipped(words)))
        return found
    except ArgumentError as error:
        raise UsageError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise UsageError(one_sentence(error)) from error


def instantiated(settings: Namespace, sections: Sequence[str] = ALL) -> Namespace:
    """Return the objects of some sections, newly built from parsed settings."""
    built: Namespace = _parser(sections).instantiate(settings)
    return built


def plain(settings: Namespace, sections: Sequence[str] = ALL) -> dict[str, Any]:
    """Return parsed settings as plain data, defaults included."""
    text = _parser(sections).dump(settings, skip_none=False, skip_validation=True)  # parsing has checked them
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def trainer_of(settings: Namespace) -> Trainer:
    """Return a new trainer, built from parsed settings."""
    quieten()
    alone = Namespace(trainer=settings.trainer)  # type: ignore[no-untyped-call]
    trainer: Trainer = instantiated(alone, ("trainer",)).trainer
    return trainer


def seed_of(settings: Namespace) -> int:
    """Return the seed of parsed settings; 0 if they set none or ask for a random one."""
    return settings.seed_everything if type(settings.seed_everything) is int else 0


def _of_config(config: Path, data_root: Path | None, overrides: Sequence[str]) -> Namespace:
    check_trainer_arguments(["test", "--config", str(config)])
    quieten()
    place = [] if data_root is None else ["--data.root", str(data_root)]
    return parsed(["--config", str(config), *overrides, *place], TASK)


def _parser(sections: Sequence[str]) -> ConfigParser:
    return _made_parser(tuple(sections))


@cache
def _made_parser(sections: tuple[str, ...]) -> ConfigParser:
    """Return a parser, made once, since making it takes as long as parsing a small config."""
    parser = ConfigParser(exit_on_error=False, parser_mode=CURRENT_PATHS)
    parser.add_argument("--config", action="config")
    parser.add_argument("--seed_everything", type=bool | int, default=True)
    for key in set(KEYS) - {"config", "seed_everything", *sections}:
        parser.add_argument(f"--{key}", type=Any)
    if "trainer" in sections:
        parser.add_class_arguments(Trainer, "trainer")
    if "model" in sections:
        parser.add_subclass_arguments(LightningModule, "model", required=True)
    if "data" in sections:
        parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    return parser


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(path if name == "init_args" else f"{path}.{name}", each)
    else:
        yield path, value
