"""Launchers of a sweep's workers: processes on this machine, or a Ray cluster."""

from splitlearn.sweep.launchers.base import Launcher, LauncherError, Worker
from splitlearn.sweep.launchers.processes import Processes
from splitlearn.sweep.launchers.ray import Ray

__all__ = ["Launcher", "LauncherError", "Processes", "Ray", "Worker"]
