"""Base class of pruners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class PrunerError(ValueError):
    """A pruner does not suit the sweep, or would stop all of its trials; the message names the remedy."""


@dataclass(frozen=True)
class Standing:
    """What a trial has reached at a rung, on validation images.

    Attributes:
        rate: to be minimised.
        score: to be maximised.
    """

    rate: float
    score: float


class Pruner(ABC):
    """Base class of pruners, which stop trials that are unlikely to reach the frontier.

    All trials of a sweep are compared after the same epochs, its rungs. A decision depends on nothing but what they
    have reached there, never on time, so that a sweep that is resumed, or runs on more machines, makes the same.

    A new pruner is a subclass, named by its import path: `--pruner my_package.Median`.

    Args:
        rungs: epochs after which trials are compared, ascending; None leaves them to the pruner.
        keep: share of the trials of a rung that go on, above 0 and below 1.

    Raises:
        PrunerError: if rungs are not positive and ascending, or `keep` is out of range.
    """

    def __init__(self, rungs: Sequence[int] | None = None, keep: float = 0.5) -> None:
        if rungs is not None and (not rungs or list(rungs) != sorted({*rungs}) or rungs[0] < 1):
            raise PrunerError(f"rungs are epochs from 1, ascending, e.g. 1,2,4; got {list(rungs)}")
        if not 0 < keep < 1:
            raise PrunerError(f"a pruner keeps a share between 0 and 1 of the trials of a rung, got {keep}")
        self.given, self.keep = None if rungs is None else tuple(rungs), keep

    @abstractmethod
    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs, below the number of epochs of a trial, after which trials are compared.

        Raises:
            PrunerError: if there is none, or one is not below the number.
        """

    @abstractmethod
    def stopped(self, standings: Mapping[int, Standing]) -> dict[int, str]:
        """Return the numbers of the trials that are to stop at a rung, each with the reason; the others go on.

        Args:
            standings: what each trial has reached, by number; at least one.
        """

    def describe(self, epochs: int | None, by: str | None) -> dict[str, Any]:
        """Return the pruner and what it compares as plain data, for comparison and storage.

        Args:
            epochs: epochs of a trial.
            by: parameter whose values are compared each by itself.
        """
        rungs = list(self.rungs(epochs or 1))
        if not rungs:
            return {"rungs": []}
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "rungs": rungs,
            "keep": self.keep,
            "by": by,
        }
