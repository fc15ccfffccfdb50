"""Trials of a sweep and their states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from splitlearn.sweep.distributions import Value


class State(Enum):
    """State of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One point of a sweep with its state and results.

    Attributes:
        number: number of the point, 0…N−1.
        values: values of the parameters, by path.
        state: waiting, running, paused until others have come as far, finished, stopped by a pruner, or failed.
        metrics: measured values by name, including `test/…` after a test; empty unless the trial is finished.
        error: reason of the failure; empty unless the trial failed.
        seconds: duration in seconds; NaN unless the trial has ended.
        ended: time of the end in seconds since 1970; NaN unless the trial has ended.
        stopped_after: number of epochs after which a pruner stopped it; None if none did.
        stopped_because: the pruner's reason.
    """

    number: int
    values: dict[str, Value]
    state: State
    metrics: dict[str, float]
    error: str
    seconds: float
    ended: float = math.nan
    stopped_after: int | None = None
    stopped_because: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it has finished, failed, or was stopped."""
        return self.state in (State.FINISHED, State.STOPPED, State.FAILED)
