"""A trial that a process has taken to run."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from splitlearn.sweep.distributions import Value


@dataclass(frozen=True)
class Claim:
    """A trial that this process has taken to run.

    Attributes:
        number: number of the point.
        values: values of its parameters, by name.
        attempt: the storage's record of this attempt.
        losses: how many workers were killed while they ran it, since the last launch.
    """

    number: int
    values: dict[str, Value]
    attempt: optuna.Trial
    losses: int = 0
