"""`splitlearn stages`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from splitlearn.commands.export import export_checkpoint
from splitlearn.config.messages import UsageError
from splitlearn.config.precheck import check_trainer_arguments
from splitlearn.discovery import with_current_paths
from splitlearn.files import read_yaml
from splitlearn.processes import PARENT, PATIENCE, STOPS, Stopped

EXPORTS = ("network.safetensors", "early_exit.safetensors", "bottleneck.safetensors", "student.safetensors")


class StageError(Exception):
    """A stage that has failed."""


def stages(words: Sequence[str], stages: str, licence: str = "not stated") -> None:
    """Fit one config after another, and export the best of each for the next to start from.

    --config FILE and settings such as --data.root FOLDER are those of splitlearn fit, shared by all stages. The best
    checkpoint of each is exported into the folder of its experiment, where the next config names it as `weights`.
    Launched again, it goes on: what was exported is not run again, a killed run is taken up.

    Args:
        words: of the command line of splitlearn fit.
        stages: config files, separated by commas, in their order.
        licence: licence of the weights, and whose they are; goes into their records.
    """
    files = [Path(name) for name in stages.split(",") if name]
    if not files:
        raise UsageError("--stages takes config files, e.g. vanilla.yaml,exit.yaml")
    for file in files:
        check_trainer_arguments(["fit", *words, "--config", str(file)])
    folders = [_experiment(words, file) for file in files]
    if len(set(folders)) < len(folders):
        raise UsageError("two stages log to the same folder: give each a trainer.logger.name of its own")
    for file, folder in zip(files, folders, strict=True):
        _check_settings(_stacked(words, file), folder)
    for file, folder in zip(files, folders, strict=True):
        if not (found := _exported(folder)):
            found = _fit(words, file, folder, licence)
        print(f"{file}: {found}")


def _fit(words: Sequence[str], file: Path, folder: Path, licence: str) -> Path:
    """Fit one stage, or take it up, and export its best checkpoint; return the file."""
    from splitlearn.config.build import config_of_words

    resume = ["--ckpt_path", "last"] if list(folder.rglob("last.ckpt")) else []
    command = [sys.executable, "-m", "splitlearn.commands.stage", "fit", *_stacked(words, file), *resume]
    if status := _wait_for(command):
        failed = UsageError if status == 2 else StageError
        raise failed(f"the stage {file} has failed, see above; launched again, stages goes on from there")
    best = sorted(folder.rglob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not best:
        raise UsageError(
            f"{file} has left no best.ckpt below {folder}: does it set checkpoint.filename to another name?"
        )
    export_checkpoint(best[-1], folder, None, licence, config_of_words(_stacked(words, file)))
    return _exported(folder) or folder


def _wait_for(command: Sequence[str]) -> int:
    """Run a command in a group of its own, which no signal of the terminal reaches; return its status.

    Raises:
        Stopped: if this process or the command was told to stop; the command has ended, too.
    """
    with subprocess.Popen(command, process_group=0, env=os.environ | {PARENT: str(os.getpid())}) as process:
        try:
            status = process.wait()
        except Stopped as stop:
            process.send_signal(stop.signum)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 2)  # this process has no more time itself
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if status - 128 in STOPS:
        raise Stopped(status - 128)
    return status


def _check_settings(words: Sequence[str], folder: Path) -> None:
    """Refuse to go on with a stage that was begun with other settings; what the folder tells of these is only read.

    Raises:
        UsageError: if there is such; it names what differs.
    """
    begun = sorted(folder.glob("version_*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not begun or not (list(folder.rglob("[!.]*.ckpt")) or _exported(folder)):  # of a failed start nothing goes on
        return
    from splitlearn.config.build import flat_settings, settings_of

    try:
        config = read_yaml(begun[-1])
    except ValueError as error:
        raise UsageError(str(error)) from None
    before, now = flat_settings(with_current_paths(config) if isinstance(config, dict) else {}), settings_of(words)
    names = [name for name in sorted({*before, *now}) if name.startswith(("model", "data", "trainer.max_"))]
    if different := [name for name in names if before.get(name) != now.get(name)]:
        raise UsageError(
            f"{folder} was begun with another {', '.join(different)}: launch it as it was begun, or name another "
            "folder, --trainer.logger.name"
        )


def _exported(folder: Path) -> Path | None:
    """Return the exported weights of a stage, if it has come to its end."""
    return next((folder / name for name in EXPORTS if (folder / name).is_file()), None)


def _stacked(words: Sequence[str], file: Path) -> list[str]:
    """Return the words with the stage's config behind the other configs and before settings, which win."""
    ends = [i + (2 if word == "--config" else 1) for i, word in enumerate(words) if word.split("=")[0] == "--config"]
    last = max(ends, default=0)
    return [*words[:last], "--config", str(file), *words[last:]]


def _experiment(words: Sequence[str], file: Path) -> Path:
    """Return the folder that the runs of a stage lie in."""
    from splitlearn.config.build import parsed
    from splitlearn.config.run_folder import experiment_folder

    return experiment_folder(parsed(_stacked(_of_trainer(words), file), ("trainer",)).trainer)


def _of_trainer(words: Sequence[str]) -> list[str]:
    """Return the words that name configs or settings of the trainer, with their values."""
    kept, mine = [], False
    for word in words:
        if word.startswith("--"):
            mine = word.split("=")[0].split(".")[0] in ("--config", "--trainer")
        kept += [word] if mine else []
    return kept
