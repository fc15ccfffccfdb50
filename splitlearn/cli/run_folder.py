"""Where a run lies, whatever logger it has: EXPERIMENT/version_N, with config, checkpoints and results."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

VERSIONED = ("CSVLogger", "TensorBoardLogger")  # these take the number of the run, and lie in its folder
SHARED = "SPLITLEARN_RUN_FOLDER"


def experiment_folder(trainer: Any) -> Path:
    """Return where this experiment's runs lie: the logger's folder and name, or the trainer's root folder."""
    for logger in _loggers(trainer):
        if logger.init_args.get("save_dir"):
            return Path(logger.init_args.save_dir) / (logger.init_args.get("name") or "")
    return Path(trainer.default_root_dir or ".")


def new_run_folder(trainer: Any) -> Path:
    """Return a folder for a new run and make the loggers use it; the processes of one run agree on it.

    Args:
        trainer: the trainer's settings, changed in place.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) and SHARED in os.environ:
        folder = Path(os.environ[SHARED])  # what the first process has chosen
    else:
        experiment = experiment_folder(trainer)
        folder = next(f for n in count() if not (f := experiment / f"version_{n}").exists())
        os.environ[SHARED] = str(folder)
    for logger in _loggers(trainer):
        if logger.class_path.endswith(VERSIONED) and logger.init_args.get("version") is None:
            logger.init_args.version = int(folder.name.removeprefix("version_"))
    return folder


def newest_checkpoint(experiment: Path) -> Path:
    """Return the last.ckpt below `experiment` that was written last.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = sorted(experiment.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no last.ckpt below {experiment}: nothing to resume, start without --ckpt_path")
    return found[-1]


def _loggers(trainer: Any) -> list[Any]:
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    return [logger for logger in loggers if hasattr(logger, "init_args")]
