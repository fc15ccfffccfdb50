"""`splitlearn stages`: several trainings in sequence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from splitlearn.commands.export import export_checkpoint
from splitlearn.config.messages import UsageError, one_sentence
from splitlearn.config.options import divide
from splitlearn.config.precheck import check_trainer_arguments
from splitlearn.discovery import with_current_paths
from splitlearn.files import read_yaml
from splitlearn.processes import (
    CREATION_FLAGS,
    OWN_GROUP,
    PARENT,
    PATIENCE,
    STOPS,
    Stopped,
    ask_to_stop,
    end_group,
)

EXPORTS = ("network.safetensors", "early_exit.safetensors", "bottleneck.safetensors", "student.safetensors")

DECISIVE = (  # beginnings of settings that decide what a training gives; others say where it runs and what it tells
    *("model", "data", "seed_everything"),
    *(f"trainer.{name}" for name in ("accumulate_", "callbacks", "check_val_", "gradient_", "limit_", "max_", "min_")),
    *(f"trainer.{name}" for name in ("overfit_", "precision", "val_check_")),
)


class StageError(Exception):
    """A stage failed."""


def stages(words: Sequence[str], stages: str, licence: str = "not stated") -> None:
    """Fit configs one after another, each starting from the exported best checkpoint of the previous one.

    --config FILE and settings such as --data.root FOLDER hold for all stages, as in splitlearn fit. The best checkpoint
    of each stage is exported to the folder of its experiment; the next config uses it as `weights`. If a setting moves
    that folder, such as --trainer.logger.save_dir, the path in the next config follows. A new launch skips exported
    stages and resumes an interrupted one.

    Args:
        words: command-line arguments of splitlearn fit.
        stages: config files in order, separated by commas.
        licence: licence and owner of the weights, for their records.
    """
    files = [Path(name) for name in stages.split(",") if name]
    if not files:
        raise UsageError("--stages takes config files, e.g. vanilla.yaml,exit.yaml")
    for file in files:
        check_trainer_arguments(["fit", *words, "--config", str(file)])
    folders = [_experiment(words, file) for file in files]
    for file in files:
        _check_validation(_trainer(words, file), file)
    if len(set(folders)) < len(folders):
        raise UsageError("two stages log to the same folder: give each its own trainer.logger.name")
    stacks = [[*_stacked(words, file), *_moved(words, file, files, folders)] for file in files]
    for stack, folder in zip(stacks, folders, strict=True):
        _check_settings(stack, folder)
    left = [
        pair for pair, folder in zip(zip(stacks, files, strict=True), folders, strict=True) if not _exported(folder)
    ]
    for stack, file in left[1:]:  # the next one is built by its own training
        _check_built(stack, file, folders)
    for file, stack, folder in zip(files, stacks, folders, strict=True):
        if found := _exported(folder):
            print(f"{file}: {found}, exported before; to train anew, set another folder, --trainer.logger.name")
        else:
            print(f"{file}: {_fit(stack, file, folder, licence)}")


def _fit(words: Sequence[str], file: Path, folder: Path, licence: str) -> Path:
    """Fit or resume the stage of a config and export its best checkpoint; return the file."""
    from splitlearn.config.build import config_of_words
    from splitlearn.config.run_folder import newest_checkpoint

    resume = ["--ckpt_path", "last"] if list(folder.rglob("last.ckpt")) else []
    command = [sys.executable, "-m", "splitlearn.commands.stage", "fit", *words, *resume]
    if status := _wait_for(command):
        failed = UsageError if status == 2 else StageError
        remedy = "the next launch goes on from there" if list(folder.rglob("last.ckpt")) else "correct it, launch again"
        raise failed(f"the stage {file} has failed, see above; {remedy}")
    try:
        best = newest_checkpoint(folder, "best")
    except FileNotFoundError:
        told = f"{file} wrote no best.ckpt below {folder}: does it set checkpoint.filename to another name?"
        raise UsageError(told) from None
    export_checkpoint(best, folder, None, licence, config_of_words(words))
    return _exported(folder) or folder


def _wait_for(command: Sequence[str]) -> int:
    """Run a command in its own process group, without signals of the terminal; return its exit status.

    Raises:
        Stopped: if this process or the command received a stop signal; the command has ended then.
    """
    env = os.environ | {PARENT: str(os.getpid())}
    with subprocess.Popen(command, process_group=OWN_GROUP, creationflags=CREATION_FLAGS, env=env) as process:
        try:
            status = process.wait()
        except Stopped as stop:
            ask_to_stop(process, stop.signum)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 2)  # because this process must also stop within PATIENCE
            end_group(process.pid)
            raise
    if status - 128 in STOPS:
        raise Stopped(status - 128)
    return status


def _check_settings(words: Sequence[str], folder: Path) -> None:
    """Raise UsageError, with the differences, if a stage was started with other settings before."""
    begun = sorted(folder.glob("version_*/config.yaml"), key=lambda path: path.stat().st_mtime)
    trained = [config for config in begun if list(config.parent.rglob("[!.]*.ckpt"))]  # others are of tests
    if not begun or not (list(folder.rglob("[!.]*.ckpt")) or _exported(folder)):  # nothing to resume
        return
    from splitlearn.config.build import flat_settings, settings_of

    try:
        config = read_yaml((trained or begun)[-1])
    except ValueError as error:
        raise UsageError(str(error)) from None
    before, now = flat_settings(with_current_paths(config) if isinstance(config, dict) else {}), settings_of(words)
    names = [name for name in sorted({*before, *now}) if name.startswith(DECISIVE)]
    if different := [name for name in names if before.get(name) != now.get(name)]:
        raise UsageError(
            f"{folder} was started with another {', '.join(different)}: launch it with the same settings, or set "
            "another folder, --trainer.logger.name"
        )


def _check_built(words: Sequence[str], file: Path, folders: Sequence[Path]) -> None:
    """Build a later stage's task before the first one trains for hours; weights that are still to come are left out.

    Raises UsageError if it cannot be built.
    """
    from splitlearn.config.build import config_of_words, task_from

    to_come = {str(folder / name) for folder in folders for name in EXPORTS if not (folder / name).is_file()}
    settings = _without(config_of_words(words)["model"], to_come)
    try:
        task_from(settings)
    except Exception as error:  # constructors may raise anything
        raise UsageError(f"{file}: {one_sentence(error)}") from error


def _without(content: Any, values: Set[str]) -> Any:
    """Return settings with None in place of some texts."""
    if isinstance(content, dict):
        return {name: _without(each, values) for name, each in content.items()}
    if isinstance(content, list):
        return [_without(each, values) for each in content]
    return None if isinstance(content, str) and content in values else content


def _check_validation(trainer: Any, file: Path) -> None:
    """Raise UsageError if a stage trains for no step, or ends before it validates, and so without a best checkpoint."""
    steps, interval = trainer.max_steps, trainer.val_check_interval
    if steps == 0:
        raise UsageError(f"{file} trains for no step: set --trainer.max_steps to 1 or more")
    if trainer.check_val_every_n_epoch is None and isinstance(interval, int) and 0 < steps < interval:
        raise UsageError(
            f"{file} ends after {steps} steps, before its first validation at step {interval}, and would leave "
            f"no best checkpoint to export: set --trainer.val_check_interval {steps} or lower"
        )


def _exported(folder: Path) -> Path | None:
    """Return the exported weights of a stage, if it is complete."""
    return next((folder / name for name in EXPORTS if (folder / name).is_file()), None)


def _stacked(words: Sequence[str], file: Path) -> list[str]:
    """Return the arguments with the stage's config after other configs and before settings, which take precedence."""
    ends = [i + (2 if word == "--config" else 1) for i, word in enumerate(words) if word.split("=")[0] == "--config"]
    last = max(ends, default=0)
    return [*words[:last], "--config", str(file), *words[last:]]


def _moved(words: Sequence[str], file: Path, files: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """Return the settings of a stage that name exports of other stages in folders that the arguments have moved."""
    written = [_experiment(words, each, ("--config",)) for each in files]  # where configs alone put them
    places = {str(old / name): str(new / name) for old, new in zip(written, folders, strict=True) for name in EXPORTS}
    if all(old == new for old, new in places.items()):
        return []
    from splitlearn.config.build import settings_of

    settings = settings_of(_stacked(words, file))
    named = {name: places[value] for name, value in settings.items() if isinstance(value, str) and value in places}
    return [word for name, place in named.items() for word in (f"--{name}", place)]


def _experiment(words: Sequence[str], file: Path, sections: tuple[str, ...] = ("--config", "--trainer")) -> Path:
    """Return the folder of a stage's runs, by the arguments of some sections."""
    from splitlearn.config.run_folder import experiment_folder

    return experiment_folder(_trainer(words, file, sections))


def _trainer(words: Sequence[str], file: Path, sections: tuple[str, ...] = ("--config", "--trainer")) -> Any:
    """Return the trainer's settings of a stage, by the arguments of some sections."""
    from splitlearn.config.build import parsed

    of_trainer, _ = divide(words, sections)
    return parsed(_stacked(of_trainer, file), ("trainer",)).trainer
