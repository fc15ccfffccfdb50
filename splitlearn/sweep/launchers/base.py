"""Base classes of the launchers of a sweep's workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class LauncherError(RuntimeError):
    """Workers that cannot be started; the message names the remedy."""


class Worker(ABC):
    """A process, on this or another machine, that runs trials until none waits."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Return whether the process has ended, normally, with an error or by a signal."""

    @abstractmethod
    def error(self) -> str:
        """Return the error that ended the process; empty if it ended normally or was killed."""


class Launcher(ABC):
    """Starts workers and notices when they end; the study keeps the trials.

    A new launcher is one class in a file of its own, named by import path: `--launcher my_package.Slurm`.

    Args:
        cpus: threads that a worker computes with.
        gpus: GPUs that a worker sees, 0.5 for half of one; None leaves that to the launcher.

    Raises:
        ValueError: if there are to be fewer than one thread or a negative number of GPUs.
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
            number: 0…K−1, of the worker that it is or replaces.
            work: can be pickled.
        """

    @abstractmethod
    def close(self) -> None:
        """End all remaining workers, also those that run a trial."""
