"""Storages of trials: a journal file that survives any kill, or a database."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.pool import NullPool


class StudyError(ValueError):
    """A storage cannot be used, or holds another sweep or none of this name; the message names the remedy."""


class _JournalLock:
    """File lock that the system releases when its process is killed, unlike Optuna's own locks.

    On acquisition, an incomplete last line of the journal, which a kill may have left, is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        if self.path.is_file() and not _ends_with_a_line(self.path):
            with self.path.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self.lock.release()


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def open_storage(storage: str) -> BaseStorage:
    """Return an Optuna storage: a journal file at a path, made if absent, or the database at an address."""
    if "://" in storage:
        return RDBStorage(storage, engine_kwargs={"poolclass": NullPool})  # no connection outlives what it is for
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), _JournalLock(path)))
