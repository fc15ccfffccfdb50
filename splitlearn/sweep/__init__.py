"""Sweeps: points drawn from a space, each trained and measured, and the frontier of those that no other beats."""

from splitlearn.sweep.launchers import Launcher, LauncherError, Worker
from splitlearn.sweep.pareto import bd_rate, frontier_of, hypervolume, pareto_frontier, rate_at, spread
from splitlearn.sweep.report import (
    CHOSEN_BY_TEST,
    Axes,
    Curve,
    Figures,
    Report,
    curves_of,
    figures_table,
    frontier_table,
    live_table,
    read_baseline,
    write_interactive,
    write_report,
)
from splitlearn.sweep.space import Choice, Distribution, LogUniform, Space, SpaceError, Uniform
from splitlearn.sweep.study import Claim, Study, StudyError
from splitlearn.sweep.trial import State, Trial
from splitlearn.sweep.workers import TrialLost, run_sweep

__all__ = [
    "CHOSEN_BY_TEST",
    "Axes",
    "Choice",
    "Claim",
    "Curve",
    "Distribution",
    "Figures",
    "Launcher",
    "LauncherError",
    "LogUniform",
    "Report",
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
    "figures_table",
    "frontier_of",
    "frontier_table",
    "hypervolume",
    "live_table",
    "pareto_frontier",
    "rate_at",
    "read_baseline",
    "run_sweep",
    "spread",
    "write_interactive",
    "write_report",
]
