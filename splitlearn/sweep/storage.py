"""Storages of trials: a journal file that survives any kill, or a database."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.pool import NullPool


class _JournalLock:
    """A lock that the system releases when its process is killed; Optuna's own locks stay behind.

    Whoever gets it cuts off the half line that a kill may have left.
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
    """Return the storage of Optuna: a journal at a path, made if absent, or the database of an address."""
    if "://" in storage:
        return RDBStorage(storage, engine_kwargs={"poolclass": NullPool})  # no connection outlives what it is for
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), _JournalLock(path)))
