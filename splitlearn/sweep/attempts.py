"""Attempts at the points of a sweep, as Optuna stores them, and what they say about a trial."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from splitlearn.processes import exists
from splitlearn.resource_errors import shortage_in
from splitlearn.sweep.trial import State, Trial

POINT, VALUES, DRAW = "point", "values", "draw"  # attributes of an attempt
METRICS, ERROR, PAUSED, SECONDS = "metrics", "error", "paused", "seconds"
WORKER, HOST, PID, BEAT, SUPERFLUOUS = "worker", "host", "pid", "beat", "superfluous"
RUNG = "rung "  # and a number of epochs: an attribute of an attempt; with a cohort behind it, a note of the sweep
SILENCE = 300  # seconds without a sign of life after which a worker of another machine counts as dead
GRACE = 10  # seconds that a worker may take to say who it is


def attempts_in(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return all attempts at all points, in order.

    Two workers may draw a point at the same time, with different values: the first to enqueue it decides, and attempts
    with other values do not count.
    """
    values: dict[Any, Any] = {}
    found = []
    for each in trials:
        told = each.user_attrs
        if POINT in told and values.setdefault(str(told[POINT]), told.get(VALUES)) == told.get(VALUES):
            found.append(each)
    return [each for each in found if SUPERFLUOUS not in each.user_attrs]


def by_point(attempts: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Return the attempts at each point, in order, by the point's number."""
    found: dict[int, list[FrozenTrial]] = {}
    for attempt in attempts:
        found.setdefault(attempt.user_attrs[POINT], []).append(attempt)
    return found


def losses(attempts: Iterable[FrozenTrial], since: float) -> int:
    """Return how many attempts have ended without a word since a time, in seconds since 1970."""
    ended = [t for t in attempts if t.state is TrialState.FAIL and not {PAUSED, ERROR} & t.user_attrs.keys()]
    return sum(t.datetime_start is not None and t.datetime_start.timestamp() >= since for t in ended)


def draw_of(attempt: FrozenTrial) -> int:
    """Return the number of the draw that an attempt's point came from; −1 if it is damaged."""
    found = attempt.user_attrs.get(DRAW, attempt.user_attrs[POINT])  # the same in sweeps that did not record it
    return found if type(found) is int else -1


def kept_in(notes: Mapping[str, Any]) -> set[tuple[int, int]]:
    """Return (epoch, number) of each trial that a decision at a rung lets go on, from the notes of a sweep."""
    return {(epoch, number) for epoch, each in _decisions(notes) for number in each["kept"]}


def stopped_in(notes: Mapping[str, Any]) -> dict[int, tuple[int, str]]:
    """Return, for each trial that a decision at a rung has stopped, the rung's epoch and the reason, by number."""
    return {int(n): (epoch, str(why)) for epoch, each in _decisions(notes) for n, why in each["stopped"].items()}


def _decisions(notes: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    named = [(name.removeprefix(RUNG), each) for name, each in notes.items() if name.startswith(RUNG)]
    return [(int(name.partition(" ")[0]), each) for name, each in named]


def shortages(attempts: Sequence[FrozenTrial]) -> int:
    """Return how many attempts ended for lack of disk or memory."""
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


def is_needed(number: int, attempts: Sequence[FrozenTrial]) -> bool:
    """Return whether an attempt is one of those at its point, none of which has finished, and no earlier one runs."""
    if all(t.number != number for t in attempts):
        return False
    finished = any(t.state is TrialState.COMPLETE for t in attempts)
    return not finished and not any(t.number < number and t.state is TrialState.RUNNING and lives(t) for t in attempts)


def different(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that differ, with those inside a nested setting in brackets."""
    found = []
    for name in sorted({*present, *wanted}):
        before, now = present.get(name), wanted.get(name)
        if before != now:
            inside = different(before, now) if isinstance(before, Mapping) and isinstance(now, Mapping) else []
            found.append(f"{name} ({', '.join(inside)})" if inside else name)
    return found


def trial_of(frozen: FrozenTrial, tested: Mapping[str, float], stopped: tuple[int, str] | None, waits: bool) -> Trial:
    """Return a trial.

    Args:
        frozen: its attempt.
        tested: metrics of a test.
        stopped: the epoch after which a pruner stopped it, and why; None if none has.
        waits: whether the attempt was paused and goes on later.
    """
    states = {
        TrialState.WAITING: State.WAITING,
        TrialState.RUNNING: State.RUNNING,
        TrialState.COMPLETE: State.FINISHED,
    }
    told = frozen.user_attrs
    state = states.get(frozen.state, State.FAILED)
    if stopped and state is not State.FINISHED:
        state = State.STOPPED
    elif waits and state is State.FAILED:
        state = State.PAUSED
    duration = frozen.duration.total_seconds() if frozen.duration else math.nan
    metrics = {**told.get(METRICS, {}), **tested} if state is State.FINISHED else {}
    return Trial(
        number=told[POINT],
        values=told[VALUES],
        state=state,
        metrics={name: float(value) for name, value in metrics.items()},
        error=str(told.get(ERROR, "its process was killed")) if state is State.FAILED else "",
        seconds=float(told.get(SECONDS, duration)),
        ended=frozen.datetime_complete.timestamp() if frozen.datetime_complete else math.nan,
        stopped_after=stopped[0] if stopped and state is State.STOPPED else None,
        stopped_because=stopped[1] if stopped and state is State.STOPPED else "",
    )
