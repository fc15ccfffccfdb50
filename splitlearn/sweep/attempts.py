"""Attempts at the points of a sweep: what Optuna's records of them say."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from splitlearn.processes import exists
from splitlearn.resource_errors import shortage_in
from splitlearn.sweep.trial import State, Trial

POINT, VALUES, DRAW = "point", "values", "draw"  # attributes of an attempt
METRICS, ERROR = "metrics", "error"
WORKER, HOST, PID, BEAT = "worker", "host", "pid", "beat"
SILENCE = 300  # seconds without a sign of life after which a worker of another machine counts as dead
GRACE = 10  # seconds that a worker may take to say who it is


def draw_of(attempt: FrozenTrial) -> int:
    """Return the number of the draw that an attempt's point came from; −1 if it is damaged."""
    found = attempt.user_attrs.get(DRAW, attempt.user_attrs[POINT])  # the same in sweeps that did not record it
    return found if type(found) is int else -1


def shortages(attempts: Sequence[FrozenTrial]) -> int:
    """Return how many attempts have lacked disk or memory."""
    return sum(shortage_in(attempt.user_attrs.get(ERROR, "")) != "" for attempt in attempts)


def lives(frozen: FrozenTrial) -> bool:
    """Return whether the process of a running trial exists, or may exist on another machine."""
    host, pid, beat = (frozen.user_attrs.get(name) for name in (HOST, PID, BEAT))
    if not isinstance(beat, (int, float)) or not isinstance(
        pid, int
    ):  # killed between taking the trial and saying so, or about to say so
        started = frozen.datetime_start
        return started is None or time.time() - started.timestamp() < GRACE
    if time.time() - beat > SILENCE:
        return False
    if host != socket.gethostname():
        return True
    return exists(pid)


def different(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that differ, with those inside a nested setting in brackets."""
    found = []
    for name in sorted({*present, *wanted}):
        before, now = present.get(name), wanted.get(name)
        if before != now:
            inside = different(before, now) if isinstance(before, Mapping) and isinstance(now, Mapping) else []
            found.append(f"{name} ({', '.join(inside)})" if inside else name)
    return found


def trial_of(frozen: FrozenTrial, tested: Mapping[str, float]) -> Trial:
    """Return the state and results of an attempt, with the metrics of its test."""
    states = {
        TrialState.WAITING: State.WAITING,
        TrialState.RUNNING: State.RUNNING,
        TrialState.COMPLETE: State.FINISHED,
    }
    state = states.get(frozen.state, State.FAILED)
    told = frozen.user_attrs
    duration = frozen.duration.total_seconds() if frozen.duration else math.nan
    ended = frozen.datetime_complete.timestamp() if frozen.datetime_complete else math.nan
    metrics = {**told.get(METRICS, {}), **tested} if state is State.FINISHED else {}
    error = told.get(ERROR, "its process was killed") if state is State.FAILED else ""
    numbers = {name: float(metric) for name, metric in metrics.items()}
    return Trial(told[POINT], told[VALUES], state, numbers, str(error), duration, ended)
