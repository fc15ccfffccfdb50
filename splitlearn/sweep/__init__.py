"""Sweeps: points drawn from a space, each trained and measured, and the frontier of those that no other beats."""

from splitlearn.sweep.launchers import Launcher, LauncherError, Worker
from splitlearn.sweep.pareto import bd_rate, frontier_of, hypervolume, pareto_frontier, rate_at, spread
from splitlearn.sweep.space import Choice, Distribution, LogUniform, Space, SpaceError, Uniform
from splitlearn.sweep.study import Claim, Study, StudyError
from splitlearn.sweep.trial import State, Trial
from splitlearn.sweep.workers import TrialLost, run_sweep

__all__ = [
    "Choice",
    "Claim",
    "Distribution",
    "Launcher",
    "LauncherError",
    "LogUniform",
    "Space",
    "SpaceError",
    "State",
    "Study",
    "StudyError",
    "Trial",
    "TrialLost",
    "Uniform",
    "Worker",
    "bd_rate",
    "frontier_of",
    "hypervolume",
    "pareto_frontier",
    "rate_at",
    "run_sweep",
    "spread",
]
