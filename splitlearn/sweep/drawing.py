"""How a sweep draws its points: with which sampler, from which space, and which draws the space's conditions refuse."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from splitlearn.sweep.constraints import Constraint
from splitlearn.sweep.distributions import SpaceError, Value
from splitlearn.sweep.samplers import Random, Sampler, Seen
from splitlearn.sweep.space import Space

PATIENCE = 100  # how many draws in a row may be refused; models of each are built, which takes time

Numbers: TypeAlias = Callable[[Mapping[str, Value]], Mapping[str, float] | None]
"""Function that returns the numbers of a point's model by name, or None for a model that cannot be built."""


def _no_numbers(values: Mapping[str, Value]) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Point:
    """A point of a sweep.

    Attributes:
        number: number of the point, 0…N−1.
        draw: number of the draw that it came from; larger than `number` after draws that were refused.
        values: values of its parameters, by path.
    """

    number: int
    draw: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Drawing:
    """Draws the points of a sweep; can be sent to other processes.

    Attributes:
        space: distributions of the parameters, and conditions on the numbers of their models.
        trials: number of points.
        seed: seed of the draws.
        sampler: draws the points.
        numbers: returns the numbers that the space's conditions are about; a point whose model cannot be built is not
            refused, so that its trial reports the error.
    """

    space: Space
    trials: int
    seed: int = 0
    sampler: Sampler = field(default_factory=Random)
    numbers: Numbers = _no_numbers

    def ahead(self, there: Mapping[int, int]) -> Iterator[Point]:
        """Yield the points that can be drawn before any is measured, without those that are there.

        Args:
            there: the draw of each point that is there, by its number.

        Raises:
            SpaceError: if no draw meets the space's conditions.
        """
        return self._points(there, self.sampler.ahead(self.trials), ())

    def following(self, there: Mapping[int, int], seen: Sequence[Seen]) -> Point | None:
        """Return the next point, drawn after what was seen of those that are there; None if all are there.

        Raises:
            SpaceError: if no draw meets the space's conditions.
        """
        return next(self._points(there, self.trials, seen), None)

    def _points(self, there: Mapping[int, int], count: int, seen: Sequence[Seen]) -> Iterator[Point]:
        numbers = sorted(set(range(count)) - there.keys())
        start = max(there.values(), default=-1) + 1
        accepted = self._accepted(start, seen)
        for number in numbers:
            drawn = next(accepted, None)
            if drawn is None:
                raise SpaceError(
                    f"{type(self.sampler).__name__} draws {number} points and no more: lower --trials to that"
                )
            yield Point(number, *drawn)

    def _accepted(self, start: int, seen: Sequence[Seen]) -> Iterator[tuple[int, dict[str, Value]]]:
        """Yield number and values of each draw that meets the space's conditions."""
        refused: list[Mapping[str, float]] = []
        for draw, values in enumerate(self.sampler.draws(self.space, self.seed, start, seen), start):
            numbers = self.numbers(values) if self.space.where else None
            if numbers is None or all(_holds(each, numbers) for each in self.space.where):
                refused.clear()
                yield draw, values
            else:
                refused.append(numbers)
            if len(refused) >= PATIENCE:
                raise SpaceError(_never_met(self.space.where, refused))


def _holds(constraint: Constraint, numbers: Mapping[str, float]) -> bool:
    for name in constraint.names:
        if name not in numbers:
            near = difflib.get_close_matches(name, numbers, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            known = f"it has {', '.join(sorted(numbers))}" if numbers else "it counts none"
            raise SpaceError(f"where: {constraint.text} names {name}, no number of the model{hint}; {known}")
    return constraint.holds(numbers)


def _never_met(constraints: Sequence[Constraint], refused: Sequence[Mapping[str, float]]) -> str:
    told = []
    for name in sorted({name for constraint in constraints for name in constraint.names}):
        found = [numbers[name] for numbers in refused]
        told.append(f"{name} is {min(found):.4g} to {max(found):.4g}")
    asked = " and ".join(constraint.text for constraint in constraints)
    return f"none of {len(refused)} points drawn meets {asked} ({', '.join(told)}): widen the space, or these limits"
