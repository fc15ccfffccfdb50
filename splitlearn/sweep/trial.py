"""Trials of a sweep and their states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from splitlearn.sweep.space import Value


class State(Enum):
    """State of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One point of a sweep with its state and results.

    Attributes:
        number: number of the point, 0…N−1.
        values: values of the parameters, by path.
        state: waiting, running, finished or failed.
        metrics: measured values by name, including `test/…` after a test; empty unless the trial is finished.
        error: reason of the failure; empty unless the trial failed.
        seconds: duration in seconds; NaN unless the trial has ended.
        ended: time of the end in seconds since 1970; NaN unless the trial has ended.
    """

    number: int
    values: dict[str, Value]
    state: State
    metrics: dict[str, float]
    error: str
    seconds: float
    ended: float = math.nan
