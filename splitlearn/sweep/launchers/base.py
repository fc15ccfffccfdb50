"""What a sweep asks of whatever starts its workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class LauncherError(RuntimeError):
    """Workers that cannot be started; the message names the remedy."""


class Worker(ABC):
    """A process, here or elsewhere, that has been asked to run trials until none waits."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Return whether it is gone, in peace, by an error or by a kill."""

    @abstractmethod
    def error(self) -> str:
        """Return in a few words what made it end; empty if it ended in peace or was killed."""


class Launcher(ABC):
    """Starts workers and notices their end; the trials themselves are kept by the study.

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
        """End all workers that are left, whatever they are doing."""
