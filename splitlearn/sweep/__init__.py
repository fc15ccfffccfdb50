"""Sweeps: points drawn from a space, each trained and measured, and the frontier of those that no other beats."""

from splitlearn.sweep.frontiers import (
    Axes,
    Curve,
    FrontierFigures,
    Frontiers,
    curves_of,
    frontiers_of,
    read_baseline,
)
from splitlearn.sweep.launchers import Launcher, LauncherError, Worker
from splitlearn.sweep.pareto import bd_rate, evenly_spaced_rates, frontier_of, hypervolume, pareto_frontier, rate_at
from splitlearn.sweep.space import Choice, LogUniform, ParameterDistribution, Space, SpaceError, Uniform
from splitlearn.sweep.study import Claim, Study, StudyError
from splitlearn.sweep.trial import State, Trial
from splitlearn.sweep.workers import TrialLost, run_sweep

__all__ = [
    "Axes",
    "Choice",
    "Claim",
    "Curve",
    "FrontierFigures",
    "Frontiers",
    "Launcher",
    "LauncherError",
    "LogUniform",
    "ParameterDistribution",
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
    "curves_of",
    "evenly_spaced_rates",
    "frontier_of",
    "frontiers_of",
    "hypervolume",
    "pareto_frontier",
    "rate_at",
    "read_baseline",
    "run_sweep",
]
