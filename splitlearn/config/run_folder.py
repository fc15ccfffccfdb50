"""Folder of a run, independent of its logger: EXPERIMENT/version_N with config, checkpoints and results."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from jsonargparse import Namespace

CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"
VERSIONED = ("CSVLogger", "TensorBoardLogger")  # loggers that use the number and the folder of the run
SHARED = "SPLITLEARN_RUN_FOLDER"
LOCK = ".lock"
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


class RunFolderError(Exception):
    """A run cannot or must not write to its folder; the message names the remedy."""


class RunFolder:
    """The folder of one run, and the folder of its checkpoints; a lock keeps other runs from writing checkpoints there.

    In a run of several processes, the first one creates the folder and passes the folder's path to the other processes
    in an environment variable.

    Attributes:
        path: EXPERIMENT/version_N; created by `reserve`.
        checkpoints: folder to which `fit` writes checkpoints.
        is_first: whether this is the run's first process, according to the launcher's environment variables.
    """

    def __init__(self) -> None:
        self.path = Path()
        self.checkpoints = Path()
        self.is_first = not any(int(os.environ.get(name) or 0) for name in RANKS)
        self._lock: BaseFileLock | None = None

    def reserve(self, trainer: Any) -> None:
        """Create a new folder and set it in the loggers of a trainer's settings; raises RunFolderError on failure.

        A version in the settings names the folder, unless an earlier run has created a folder of this name.
        """
        experiment = experiment_folder(trainer)
        if SHARED in os.environ and not self.is_first:
            self.path = Path(os.environ[SHARED])  # created by the first process
        elif not self.is_first:
            self.path = next(path for path in _names(experiment, None) if not path.exists())
        else:
            self.path = _make(experiment, _named_version(trainer))
            os.environ[SHARED] = str(self.path)
        if trainer.logger in (None, True) and not trainer.get("barebones"):
            arguments = Namespace(save_dir=str(experiment), name="")  # type: ignore[no-untyped-call]
            trainer.logger = Namespace(class_path=CSV_LOGGER, init_args=arguments)  # type: ignore[no-untyped-call]
        for logger in _loggers(trainer):
            if logger.class_path.endswith(VERSIONED):
                number = self.path.name.removeprefix("version_")
                logger.init_args.version = int(number) if number.isdecimal() else self.path.name

    def keep_checkpoints(self, given: str | None, resumed: Path | None) -> None:
        """Choose and lock the folder of checkpoints; a resumed run keeps its folder.

        Args:
            given: folder in the settings; ignored if it belongs to an earlier run of the experiment.
            resumed: checkpoint from which the run is resumed.

        Raises:
            RunFolderError: if another run writes to the folder, or has checkpoints in it.
        """
        going_on = None if resumed is None else resumed.parent
        if given is None or self._is_of_a_run(Path(given)):
            self.checkpoints = going_on or self.path / "checkpoints"
        else:
            self.checkpoints = Path(given)
        if not self.is_first:
            return
        if not _same(self.checkpoints, going_on) and any(self.checkpoints.glob("[!.]*.ckpt")):
            raise RunFolderError(
                f"{self.checkpoints} holds the checkpoints of another run: name another --checkpoint.dirpath, or go on "
                f"with --ckpt_path {self.checkpoints / 'last.ckpt'}"
            )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.checkpoints)
        for remains in self.checkpoints.glob(".*.ckpt"):  # of a run that was killed while it saved
            remains.unlink(missing_ok=True)

    def notes(self) -> list[str]:
        """Return how to resume a stopped run of `fit`; nothing for other commands."""
        if self.checkpoints == Path():
            return []
        last = self.checkpoints / "last.ckpt"
        if not last.is_file():
            return ["nothing was saved yet: the same command starts again"]
        with suppress(FileNotFoundError):
            if _same(newest_checkpoint(self.path.parent), last):
                return [f"the same command with --ckpt_path last goes on from {last}"]
        return [f"the same command with --ckpt_path {last} goes on"]

    def release(self) -> None:
        """Release the lock, and remove empty folders."""
        if not self.is_first or self.path == Path():
            return
        os.environ.pop(SHARED, None)
        if self._lock is not None:
            with suppress(OSError):  # Windows removes it as it is released
                Path(self._lock.lock_file).unlink()
            self._lock.release()
            self._lock = None
        for empty in (self.path / "checkpoints", self.path):
            with suppress(OSError):  # not empty, or never created
                empty.rmdir()

    def _is_of_a_run(self, folder: Path) -> bool:
        return folder.name == "checkpoints" and _same(folder.parent.parent, self.path.parent)


def experiment_folder(trainer: Any) -> Path:
    """Return the folder of the experiment's runs: the logger's folder and name, or the trainer's root folder."""
    for logger in _loggers(trainer):
        if logger.init_args.get("save_dir"):
            return Path(logger.init_args.save_dir) / (logger.init_args.get("name") or "")
    return Path(trainer.default_root_dir or ".")


def newest_checkpoint(experiment: Path, name: str = "last") -> Path:
    """Return the most recent last.ckpt or best.ckpt below `experiment`; raise FileNotFoundError if there is none."""
    found = [*experiment.rglob(f"{name}.ckpt"), *experiment.rglob(f"{name}-v*.ckpt")]  # Lightning counts a second best
    if not found:
        raise FileNotFoundError(
            f"no {name}.ckpt below {experiment}: no run to resume or test, begin one by fit without --ckpt_path"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def _make(experiment: Path, wanted: str | None) -> Path:
    """Create a new folder; concurrent processes get different ones."""
    try:
        experiment.mkdir(parents=True, exist_ok=True)
        for path in _names(experiment, wanted):
            with suppress(FileExistsError):
                path.mkdir()
                if wanted is not None and path.name != wanted:
                    print(f"note: {experiment / wanted} is of an earlier run, this one is {path}", file=sys.stderr)
                return path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunFolderError(
            f"no run folder can be made in {experiment} ({error.strerror}): name another, --trainer.logger.save_dir"
        ) from error
    raise AssertionError("numbers do not end")


def _names(experiment: Path, wanted: str | None) -> Iterator[Path]:
    if wanted is not None:
        yield experiment / wanted
    yield from (experiment / f"version_{n}" for n in count())


def _named_version(trainer: Any) -> str | None:
    """Return the folder of a run in the settings, if set."""
    for logger in _loggers(trainer):
        version = logger.init_args.get("version")
        if logger.class_path.endswith(VERSIONED) and version is not None:
            return version if isinstance(version, str) else f"version_{version}"
    return None


def _locked(folder: Path) -> BaseFileLock:
    """Return a lock on a folder, which the system releases when this process ends."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunFolderError(
            f"another process writes to {folder}: wait for its end, or start a new run without --ckpt_path"
        ) from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    return lock


def _same(one: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(one) == os.path.realpath(other)


def _loggers(trainer: Any) -> list[Any]:
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    return [logger for logger in loggers if hasattr(logger, "init_args")]
