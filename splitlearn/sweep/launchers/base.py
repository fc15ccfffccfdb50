"""Base classes of the launchers of a sweep's workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class LauncherError(RuntimeError):
    """Workers cannot be started, or end with errors; the message names the remedy."""


class Worker(ABC):
    """A process, on this or another machine, that runs trials until none waits."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Return whether the process has ended, normally, with an error or by a signal."""

    @abstractmethod
    def error(self) -> str:
        """Return the error that ended the process; empty if it ended normally or was killed."""


class Launcher(ABC):
    """Base class of launchers, which start workers; the study stores the trials.

    A new launcher is a subclass, named by its import path: `--launcher my_package.Slurm`.

    Args:
        cpus: number of threads of a worker.
        gpus: number of GPUs that a worker sees; with 0.5, two workers share one. None leaves it to the launcher.

    Raises:
        ValueError: if `cpus` is below 1, or `gpus` is negative.
        LauncherError: if workers cannot be started here.
    """

    def __init__(self, cpus: int = 1, gpus: float | None = None) -> None:
        if cpus < 1 or (gpus is not None and gpus < 0):
            raise ValueError(f"a worker takes 1 CPU or more and 0 GPUs or more, got {cpus} and {gpus}")
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"a worker takes a share of one GPU, or whole ones, got {gpus}")
        self.cpus, self.gpus = cpus, gpus

    @abstractmethod
    def start(self, number: int, work: Callable[[], None]) -> Worker:
        """Start a worker that calls `work` once; it may wait for resources first.

        Args:
            number: number of the worker, 0…K−1; a replacement gets the number of the worker that it replaces.
            work: the work, which can be pickled.
        """

    @abstractmethod
    def close(self) -> None:
        """End all remaining workers, including those that run a trial."""
