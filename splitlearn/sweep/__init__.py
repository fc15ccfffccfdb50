"""Sweeps: points drawn from a search space, trained and measured in parallel, and their Pareto frontier."""

from splitlearn.sweep.claim import Claim
from splitlearn.sweep.constraints import Constraint
from splitlearn.sweep.distributions import (
    Choice,
    Int,
    LogInt,
    LogUniform,
    ParameterDistribution,
    Range,
    SpaceError,
    Uniform,
)
from splitlearn.sweep.drawing import Drawing, Point
from splitlearn.sweep.frontiers import (
    Axes,
    Curve,
    FrontierFigures,
    Frontiers,
    curves_of,
    frontiers_of,
    read_baseline,
)
from splitlearn.sweep.importance import importances
from splitlearn.sweep.launchers import Launcher, LauncherError, Worker
from splitlearn.sweep.pareto import bd_rate, evenly_spaced_rates, frontier_of, hypervolume, pareto_frontier, rate_at
from splitlearn.sweep.progress import Progress
from splitlearn.sweep.pruners import NoPruner, Pruner, PrunerError, Standing, SuccessiveHalving
from splitlearn.sweep.rungs import Next
from splitlearn.sweep.samplers import TPE, Random, Sampler, Seen, Sobol
from splitlearn.sweep.space import Space
from splitlearn.sweep.storage import StudyError
from splitlearn.sweep.study import Study
from splitlearn.sweep.trial import State, Trial
from splitlearn.sweep.workers import Groups, TrialLost, run_sweep

__all__ = [
    "TPE",
    "Axes",
    "Choice",
    "Claim",
    "Constraint",
    "Curve",
    "Drawing",
    "FrontierFigures",
    "Frontiers",
    "Groups",
    "Int",
    "Launcher",
    "LauncherError",
    "LogInt",
    "LogUniform",
    "Next",
    "NoPruner",
    "ParameterDistribution",
    "Point",
    "Progress",
    "Pruner",
    "PrunerError",
    "Random",
    "Range",
    "Sampler",
    "Seen",
    "Sobol",
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
    "importances",
    "pareto_frontier",
    "rate_at",
    "read_baseline",
    "run_sweep",
]
