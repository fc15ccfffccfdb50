"""Launcher that runs workers as tasks of a Ray cluster, on one or several machines."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splitlearn.processes import find_own_classes
from splitlearn.resource_errors import brief, described
from splitlearn.sweep.launchers.base import Launcher, LauncherError, Worker

ADDRESS = "RAY_ADDRESS"
OBJECT_STORE = 1 << 27  # bytes; trials send nothing through it, and Ray would take a third of the memory


class Ray(Launcher):
    """Starts a task for each worker, on the cluster at RAY_ADDRESS or on a new one on this machine.

    Tasks wait until a machine has enough free CPUs and GPUs. All machines of a cluster need the project, its data and
    the sweep's folder at the same path, for example on a shared disk, and access to the storage.

    Args:
        cpus: number of CPUs and of threads of a worker.
        gpus: number of GPUs of a worker; with 0.5, two workers share one. None means 0: Ray hides GPUs that were not
            requested.

    Raises:
        LauncherError: if Ray is not installed, the cluster cannot be reached, or no machine has enough CPUs and GPUs.
    """

    def __init__(self, cpus: int = 1, gpus: float | None = None) -> None:
        super().__init__(cpus, gpus)
        address = os.environ.get(ADDRESS)
        if not address:
            _keep_to_itself()
        try:
            import ray
        except ImportError as error:
            raise LauncherError('Ray is not installed: pip install "splitlearn[ray]"') from error
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
        except Exception as error:  # whatever lies between here and the cluster
            raise LauncherError(
                f"no Ray cluster could be {f'reached at {address}' if address else 'started'} ({brief(error)}): "
                f"{f'check {ADDRESS}, or unset it for a cluster on this machine' if address else 'see its message'}"
            ) from error
        self._ray = ray
        largest = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= (gpus or 0) for each in largest):
            ray.shutdown()
            raise LauncherError(
                f"no machine of the Ray cluster has {cpus} CPUs and {gpus or 0:g} GPUs: lower --cpus or --gpus"
            )
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus or 0, max_retries=0)(_run)

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        """Submit a task."""
        task = self._task.options(name=f"splitlearn_{number}")
        return _Task(self._ray, task.remote(work, os.getcwd(), sys.argv))

    def close(self) -> None:
        """Disconnect from the cluster, which ends this sweep's tasks; a cluster that this sweep started ends too."""
        self._ray.shutdown()


class _Task(Worker):
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def has_ended(self) -> bool:
        ended, _ = self.ray.wait([self.reference], timeout=0)
        return bool(ended)

    def error(self) -> str:
        killed = self.ray.exceptions
        try:
            self.ray.get(self.reference)
        except (killed.WorkerCrashedError, killed.NodeDiedError, killed.OutOfMemoryError):
            return ""
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            return described(cause)
        return ""


def _keep_to_itself() -> None:
    """Set variables that Ray reads on import: a local cluster sends no statistics and writes no token to the home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _run(work: Callable[[], None], folder: str, arguments: list[str]) -> None:
    """Run the work in the folder of the sweep, with the command line that its results record."""
    if not Path(folder).is_dir():
        raise LauncherError(f"{socket.gethostname()} has no {folder}: launch from a folder that all machines share")
    os.chdir(folder)
    find_own_classes()
    sys.argv = arguments
    work()
