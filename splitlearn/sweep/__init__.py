"""Sweeps: points drawn from a search space, trained and measured in parallel, and their Pareto frontier."""

from splitlearn.sweep.claim import Claim
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
from splitlearn.sweep.progress import Progress
from splitlearn.sweep.pruners import NoPruner, Pruner, PrunerError, Standing, SuccessiveHalving
from splitlearn.sweep.rungs import Next
from splitlearn.sweep.space import Choice, LogUniform, ParameterDistribution, Space, SpaceError, Uniform
from splitlearn.sweep.study import Study, StudyError
from splitlearn.sweep.trial import State, Trial
from splitlearn.sweep.workers import Groups, TrialLost, run_sweep

__all__ = [
    "Axes",
    "Choice",
    "Claim",
    "Curve",
    "FrontierFigures",
    "Frontiers",
    "Groups",
    "Launcher",
    "LauncherError",
    "LogUniform",
    "Next",
    "NoPruner",
    "ParameterDistribution",
    "Progress",
    "Pruner",
    "PrunerError",
    "Space",
    "SpaceError",
    "Standing",
    "State",
    "Study",
    "StudyError",
    "SuccessiveHalving",
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
