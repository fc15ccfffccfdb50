"""Search space of a sweep: parameters of the config, their distributions, and which points are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from splitlearn.sweep.constraints import Constraint
from splitlearn.sweep.distributions import (
    Choice,
    Int,
    LogInt,
    LogUniform,
    ParameterDistribution,
    SpaceError,
    Uniform,
    Value,
)
from splitlearn.sweep.space_file import WHEN, WHERE, conditions_in, read_space_file

__all__ = ["Space"]

KINDS: Mapping[str, type[ParameterDistribution]] = {
    "choice": Choice,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int": Int,
    "log_int": LogInt,
}
Condition = Mapping[str, tuple[Value, ...]]
"""Values of other parameters, by path, with which a parameter exists."""


@dataclass(frozen=True)
class Space:
    """Parameters and their distributions.

    Attributes:
        parameters: distributions by path in the config, e.g. `model.model.quantizer.step`.
        conditions: parameters that exist only with some values of others that stand above them, e.g. a step with the
            quantizer `Step`.
        where: conditions on the numbers of a point's model, e.g. on its multiply–accumulates.

    Raises:
        SpaceError: if there are no parameters, or a condition names none above or a value that is never drawn.
    """

    parameters: Mapping[str, ParameterDistribution]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    where: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.parameters:
            raise SpaceError("the space is empty: name a parameter and what to draw it from")
        names = list(self.parameters)
        for name, condition in self.conditions.items():
            for other, values in condition.items():
                if other not in names[: names.index(name)]:
                    raise SpaceError(f"{name}: its {WHEN} names {other}, which must be a parameter above it")
                if never := [value for value in values if not self.parameters[other].holds(value)]:
                    raise SpaceError(f"{name}: its {WHEN} asks for {other} {never[0]}, which is never drawn")

    @classmethod
    def read(cls, path: Path) -> Space:
        """Read a space from a YAML file, one parameter of the config a line.

        `PATH: {choice: […]}`, or a range `[low, high]`: `{uniform: …}`, `{log_uniform: …}`, `{int: …}`,
        `{log_int: …}`. With `when: {PATH: VALUE}` beside it, a parameter exists only with this value of another. A
        line `where: [device_macs < 5e6]` states what the model of each point must keep to.

        Raises:
            FileNotFoundError: if there is no such file.
            SpaceError: if it is not YAML, a distribution is unknown, empty or has its limits exchanged, or a condition
                cannot be read.
        """
        content = read_space_file(path)
        found: dict[str, ParameterDistribution] = {}
        conditions: dict[str, Condition] = {}
        try:
            where = tuple(map(Constraint, conditions_in(content.pop(WHERE, []))))
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}") from None
        for name, description in content.items():
            try:
                found[name], condition = _distribution(description)
            except SpaceError as error:
                raise SpaceError(f"{path}, {name}: {error}") from None
            conditions |= {name: condition} if condition else {}
        try:
            return cls(found, conditions, where)
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}") from None

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Space:
        """Return the space that `describe` has described."""
        kinds: dict[str, Any] = {kind.__name__: kind for kind in KINDS.values()}
        found: dict[str, ParameterDistribution] = {}
        conditions: dict[str, Condition] = {}
        for name, each in description.items():
            if name == WHERE:
                continue
            ((kind, settings),) = ((key, value) for key, value in each.items() if key != WHEN)
            found[name] = kinds[kind](**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
            if WHEN in each:
                conditions[name] = {other: tuple(values) for other, values in each[WHEN].items()}
        return cls(found, conditions, tuple(map(Constraint, description.get(WHERE, ()))))

    def point(self, seed: int, number: int) -> dict[str, Value]:
        """Return the parameter values of a point, by path; they depend only on space, seed and the point's number."""
        random = np.random.default_rng([seed, number])
        return self.existing({name: each.draw(random) for name, each in self.parameters.items()})

    def at(self, shares: Mapping[str, float]) -> dict[str, Value]:
        """Return the point at a share in [0, 1) of each parameter's distribution, by path."""
        return self.existing({name: each.at(shares[name]) for name, each in self.parameters.items()})

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """Return the point that Optuna suggests for a trial, which records it."""
        found: dict[str, Value] = {}
        for name, each in self.parameters.items():
            if self._exists(name, found):
                found[name] = each.suggest(trial, name)
        return found

    def existing(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return a value of every parameter without those of parameters that do not exist with the others."""
        found: dict[str, Value] = {}
        for name, value in values.items():
            if self._exists(name, found):
                found[name] = value
        return found

    def _exists(self, name: str, values: Mapping[str, Value]) -> bool:
        wanted = self.conditions.get(name, {})
        return all(other in values and values[other] in legal for other, legal in wanted.items())

    def holds(self, values: Any) -> bool:
        """Return whether values form a point: a legal value for each parameter that exists, and no others."""
        if not isinstance(values, dict) or not values.keys() <= self.parameters.keys():
            return False
        names = [name for name in self.parameters if self._exists(name, values)]
        return values.keys() == set(names) and all(self.parameters[name].holds(values[name]) for name in names)

    def describe(self) -> dict[str, Any]:
        """Return the space as plain data, for comparison and storage."""
        found: dict[str, Any] = {n: {type(each).__name__: each.describe()} for n, each in self.parameters.items()}
        for name, condition in self.conditions.items():
            found[name][WHEN] = {other: list(values) for other, values in condition.items()}
        return found | ({WHERE: [each.text for each in self.where]} if self.where else {})


def _distribution(description: Any) -> tuple[ParameterDistribution, Condition]:
    """Return the distribution and the condition of one parameter in a space file."""
    given = dict(description) if isinstance(description, dict) else {}
    condition = given.pop(WHEN, {})
    if len(given) != 1 or next(iter(given)) not in KINDS:
        raise SpaceError(f"takes one of {', '.join(KINDS)}, e.g. {{choice: [1, 2]}}; got {description}")
    ((kind, values),) = given.items()
    if not isinstance(values, list):
        raise SpaceError(f"{kind} takes a list, got {values}")
    if not isinstance(condition, dict):
        raise SpaceError(f"{WHEN} takes a value of another parameter, {{PATH: VALUE}}, got {condition}")
    wanted = {str(name): tuple(legal) if isinstance(legal, list) else (legal,) for name, legal in condition.items()}
    return KINDS[kind].of(values), wanted
