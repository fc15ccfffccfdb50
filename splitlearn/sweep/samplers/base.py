"""Base class of the samplers of a sweep's points."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning

from splitlearn.sweep.distributions import Value
from splitlearn.sweep.space import Space


@dataclass(frozen=True)
class Seen:
    """A point that was drawn before, in the order of points.

    Attributes:
        values: values of its parameters, by path.
        result: the rate, which is minimised, and the score, which is maximised; None while it waits or runs.
    """

    values: Mapping[str, Value]
    result: tuple[float, float] | None


class Sampler(ABC):
    """Base class of samplers, which draw the points of a sweep.

    A new sampler is a subclass, named by its import path: `--sampler my_package.Grid`. Any process of the sweep may
    draw a point, and draw it again after a kill, so a draw may depend on nothing but its arguments.
    """

    def ahead(self, trials: int) -> int:
        """Return how many of a sweep's points can be drawn before any is measured: all, unless a sampler learns."""
        return trials

    @abstractmethod
    def draws(self, space: Space, seed: int, start: int, seen: Sequence[Seen]) -> Iterator[dict[str, Value]]:
        """Yield draws number `start`, `start` + 1, …: values of the parameters of a point, by path.

        A draw that breaks the space's conditions is not used, and the next one takes its place. If there is a last
        draw, a sweep cannot have more points.

        Args:
            space: distributions of the parameters.
            seed: seed of the sweep.
            start: number of the first draw.
            seen: the points drawn before that have not failed.
        """


def study_in_memory(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Return an Optuna study of rate and score that no other process sees."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


def without_warnings() -> warnings.catch_warnings:
    """Return a context in which Optuna does not warn of features whose interface may change."""
    return warnings.catch_warnings(action="ignore", category=ExperimentalWarning)
