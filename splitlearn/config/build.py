"""What a config of `splitlearn test` describes, for commands that are not the trainer's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning import LightningDataModule, LightningModule

from splitlearn.config.precheck import KEYS, check_trainer_arguments
from splitlearn.tasks import quieten


def build_task(config: Path, data_root: Path | None, overrides: Sequence[str] = ()) -> tuple[LightningModule, Any]:
    """Return the task and the data module of a config; its other sections are read and left.

    Args:
        config: what `splitlearn test` takes.
        data_root: folder of the images, in place of the config's `data.root`.
        overrides: further words of a command line, e.g. `--model.model.net.at`, `layer1`.

    Raises:
        UsageError: if the config is absent or has unknown sections.
    """
    parser, settings = _parsed(config, data_root, overrides)
    torch.manual_seed(settings.seed_everything if type(settings.seed_everything) is int else 0)
    built = parser.instantiate(settings)
    return built.model, built.data


def config_settings(config: Path, data_root: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `build_task` builds from, as plain data.

    Raises:
        UsageError: if the config is absent or has unknown sections.
    """
    parser, settings = _parsed(config, data_root, overrides)
    found: dict[str, Any] = yaml.safe_load(parser.dump(settings, skip_none=False))
    return found


def _parsed(config: Path, data_root: Path | None, overrides: Sequence[str]) -> tuple[ArgumentParser, Namespace]:
    check_trainer_arguments(["test", "--config", str(config)])
    quieten()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    for key in set(KEYS) - {"config", "model", "data"}:
        parser.add_argument(f"--{key}", type=Any)
    parser.add_subclass_arguments(LightningModule, "model")
    parser.add_subclass_arguments(LightningDataModule, "data")
    words = ["--config", str(config), *overrides]
    words += [] if data_root is None else ["--data.root", str(data_root)]
    return parser, parser.parse_args(words)
