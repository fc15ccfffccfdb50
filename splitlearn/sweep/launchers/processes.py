"""Launcher that runs workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from splitlearn.processes import end_group, end_with, interrupts_held, lead_group
from splitlearn.sweep.launchers.base import Launcher, LauncherError, Worker

GPUS = "CUDA_VISIBLE_DEVICES"


class Processes(Launcher):
    """Starts a new process for each worker; all processes end if the sweep is killed.

    Args:
        cpus: number of threads of a worker.
        gpus: number of GPUs that a worker sees; with 0.5, two workers share one. By default each sees all GPUs of the
            sweep.

    Raises:
        LauncherError: if `gpus` is larger than the number of GPUs.
    """

    def __init__(self, cpus: int = 1, gpus: float | None = None) -> None:
        super().__init__(cpus, gpus)
        self._started: list[BaseProcess] = []
        self._names = _gpus() if gpus else []
        if gpus and gpus > len(self._names):
            raise LauncherError(
                f"a worker is to have {gpus:g} GPUs, this machine offers {len(self._names)}: lower --gpus"
            )

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        """Start a process."""
        process = multiprocessing.get_context("spawn").Process(target=_run, args=(work, os.getpid()))
        with _visible(None if self.gpus is None else self.visible(number)), interrupts_held():
            process.start()
        self._started = [each for each in self._started if each.is_alive()] + [process]
        return _Process(process)

    def close(self) -> None:
        """Kill all remaining processes and their child processes; a sweep can continue after any kill."""
        for process in self._started:
            if process.pid is not None:
                end_group(process.pid)
            process.kill()
        for process in self._started:
            process.join()

    def visible(self, number: int) -> str:
        """Return the names of the GPUs of a worker: consecutive ones, or one that it shares with others."""
        each = max(1, int(self.gpus or 0))
        groups = [self._names[i : i + each] for i in range(0, len(self._names) - each + 1, each)]
        return ",".join(groups[int(number * (self.gpus or 0) / each) % len(groups)]) if groups else ""


class _Process(Worker):
    def __init__(self, process: BaseProcess) -> None:
        self.process = process

    def has_ended(self) -> bool:
        return not self.process.is_alive()

    def error(self) -> str:
        status = self.process.exitcode or 0
        return f"it ended with status {status}" if status > 0 else ""  # below zero: a signal


def _run(work: Callable[[], None], parent: int) -> None:
    lead_group()  # what a terminal sends to all processes is for the sweep's own to handle
    end_with(parent)
    work()


@contextmanager
def _visible(gpus: str | None) -> Iterator[None]:
    """Make processes that start within this context see only these GPUs; None changes nothing."""
    before = os.environ.get(GPUS)
    if gpus is not None:
        os.environ[GPUS] = gpus
    try:
        yield
    finally:
        os.environ.pop(GPUS, None)
        if before is not None:
            os.environ[GPUS] = before


def _gpus() -> list[str]:
    """Return the names of the GPUs that this process sees."""
    if named := os.environ.get(GPUS):
        return named.split(",")
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
