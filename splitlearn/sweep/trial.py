"""A point of a sweep, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from splitlearn.sweep.space import Value


class State(Enum):
    """What has become of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One point of a sweep, and what has become of it.

    Attributes:
        number: of the point, 0…N−1.
        values: of the parameters, by path.
        state: see there.
        metrics: what was measured, by name; empty unless it is finished. `test/…` are there once it was tested.
        error: why it failed, in a sentence; empty unless it did.
        seconds: from start to end; NaN unless it has ended.
    """

    number: int
    values: dict[str, Value]
    state: State
    metrics: dict[str, float]
    error: str
    seconds: float
