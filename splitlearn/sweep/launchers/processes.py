"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from splitlearn.sweep.launchers.base import Launcher, LauncherError, Worker

GPUS = "CUDA_VISIBLE_DEVICES"


class Processes(Launcher):
    """Starts a fresh process for each worker, which ends if the sweep is killed.

    Without `gpus`, workers see what the sweep sees; with it, they take turns on the GPUs.

    Args:
        cpus: threads that a worker computes with.
        gpus: GPUs that a worker sees; 0.5 lets two share one.

    Raises:
        LauncherError: if a worker is to have more GPUs than there are.
    """

    def __init__(self, cpus: int = 1, gpus: float | None = None) -> None:
        super().__init__(cpus, gpus)
        self._started: list[BaseProcess] = []
        if gpus and not _devices(0, gpus):
            raise LauncherError(f"a worker is to have {gpus:g} GPUs, this machine has {_count()}: lower --gpus")

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        """Start a process."""
        visible = None if self.gpus is None else ",".join(_devices(number, self.gpus))
        process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(work, os.getpid(), visible), daemon=True
        )
        process.start()
        self._started = [each for each in self._started if each.is_alive()] + [process]
        return _Process(process)

    def close(self) -> None:
        """Terminate all processes that are left."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.join()


class _Process(Worker):
    def __init__(self, process: BaseProcess) -> None:
        self.process = process

    def has_ended(self) -> bool:
        return not self.process.is_alive()

    def error(self) -> str:
        status = self.process.exitcode or 0
        return f"it ended with status {status}" if status > 0 else ""  # below zero: a signal


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone: the sweep's next launch runs its trial again.

    Args:
        parent: number of the process that must live.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(work: Callable[[], None], parent: int, visible: str | None) -> None:
    end_with(parent)
    if visible is not None:
        os.environ[GPUS] = visible
    work()


def _devices(number: int, gpus: float) -> list[str]:
    """Return the names of the GPUs for the worker of a number; none if there are too few.

    Workers with whole GPUs get neighbours, those with shares fill one GPU after the other.
    """
    names = os.environ[GPUS].split(",") if os.environ.get(GPUS) else [str(i) for i in range(_count())]
    each = max(1, int(gpus))
    groups = [names[i : i + each] for i in range(0, len(names) - each + 1, each)] if gpus else []
    return groups[int(number * gpus / each) % len(groups)] if groups else []


def _count() -> int:
    import torch

    return torch.cuda.device_count()
