"""Search space of a sweep: parameters of the config and their distributions."""

from __future__ import annotations

import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from splitlearn.files import read_yaml
from splitlearn.shipped import located

Value = int | float | str
DIGITS = r"\d+(?:_\d+)*"
NUMBER = re.compile(rf"[-+]?(?:{DIGITS}(?:\.(?:{DIGITS})?)?|\.{DIGITS})(?:[eE][-+]?\d+)?$")


class SpaceError(ValueError):
    """A search space is not valid; the message names the parameter and the remedy."""


class ParameterDistribution(ABC):
    """Distribution of one parameter."""

    @abstractmethod
    def draw(self, random: np.random.Generator) -> Value:
        """Return one value."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Return whether a value lies in the support of the distribution."""


@dataclass(frozen=True)
class Choice(ParameterDistribution):
    """One of several values, all equally likely.

    Attributes:
        values: numbers or texts.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("a choice needs one value or more")
        if not all(isinstance(value, (int, float, str)) for value in self.values):
            raise SpaceError(f"a choice is between numbers or words, got {list(self.values)}: put others in quotes")
        if not all(math.isfinite(value) for value in self.values if isinstance(value, float)):
            raise SpaceError(f"a choice is between finite numbers or words, got {list(self.values)}")

    def draw(self, random: np.random.Generator) -> Value:
        """Return one of the values."""
        return self.values[int(random.integers(len(self.values)))]

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return any(type(each) is type(value) and each == value for each in self.values)


@dataclass(frozen=True)
class Uniform(ParameterDistribution):
    """A number from a uniform distribution between two limits.

    Attributes:
        low: smallest value.
        high: largest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def draw(self, random: np.random.Generator) -> Value:
        """Return a number."""
        return float(random.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number between the limits."""
        return type(value) in (int, float) and self.low <= value <= self.high


@dataclass(frozen=True)
class LogUniform(ParameterDistribution):
    """A positive number from a log-uniform distribution, where every order of magnitude is equally likely.

    Attributes:
        low: smallest value, above zero.
        high: largest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if self.low <= 0:
            raise SpaceError(f"log_uniform needs numbers above zero, got {self.low} to {self.high}")

    def draw(self, random: np.random.Generator) -> Value:
        """Return a number."""
        return float(math.exp(random.uniform(math.log(self.low), math.log(self.high))))

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number between the limits, within the rounding of logarithms."""
        return type(value) in (int, float) and self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


def _check_range(low: float, high: float) -> None:
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
    if not (numbers and -sys.float_info.max <= low < high <= sys.float_info.max):
        raise SpaceError(f"a range goes from a number to a larger one, without quotes, got {low} to {high}")


class _Loader(yaml.SafeLoader):
    """YAML loader that reads decimal numbers, such as 1e-3, as numbers and all else as text, for the config's parser.

    YAML 1.1 would read 1e-3 as text, 010 as eight and `no` as false, for any parameter.
    """

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a plain scalar represents."""
        try:
            return int(node.value)
        except ValueError:
            return float(node.value)


_Loader.yaml_implicit_resolvers = {}  # its own, without those of the base class
_Loader.add_implicit_resolver("!number", NUMBER, list("-+.0123456789"))
_Loader.add_constructor("!number", _Loader.number)


KINDS = ("choice", "uniform", "log_uniform")


@dataclass(frozen=True)
class Space:
    """Parameters and their distributions.

    Attributes:
        parameters: distributions by path in the config, e.g. `model.model.quantizer.step`.

    Raises:
        SpaceError: if there are no parameters.
    """

    parameters: Mapping[str, ParameterDistribution]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise SpaceError("the space is empty: name a parameter and what to draw it from")

    @classmethod
    def read(cls, path: Path) -> Space:
        """Read a space from a YAML file: `PATH: {choice: […]}`, `{uniform: [low, high]}` or `{log_uniform: …}`.

        Raises:
            FileNotFoundError: if there is no such file, shipped ones included.
            SpaceError: if it is not YAML, or a distribution is unknown, empty or has its limits exchanged.
        """
        path = located(path)
        if not path.is_file():
            raise FileNotFoundError(f"no space at {path}; configs/spaces/datta2022_classification.yaml is an example")
        try:
            content = read_yaml(path, _Loader)
        except ValueError as error:
            raise SpaceError(str(error)) from None
        if not isinstance(content, dict):
            raise SpaceError(f"{path} holds no parameters: write one a line, PATH: {{choice: [1, 2]}}")
        found: dict[str, ParameterDistribution] = {}
        for name, description in content.items():
            try:
                found[str(name)] = _distribution(description)
            except SpaceError as error:
                raise SpaceError(f"{path}, {name}: {error}") from None
        return cls(found)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Space:
        """Return the space that `describe` has described."""
        kinds: dict[str, Any] = {kind.__name__: kind for kind in (Choice, Uniform, LogUniform)}
        found: dict[str, ParameterDistribution] = {}
        for name, each in description.items():
            ((kind, settings),) = each.items()
            found[name] = kinds[kind](**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
        return cls(found)

    def point(self, seed: int, number: int) -> dict[str, Value]:
        """Return the parameter values of a point, by path; they depend only on space, seed and the point's number."""
        random = np.random.default_rng([seed, number])
        return {name: each.draw(random) for name, each in self.parameters.items()}

    def holds(self, values: Any) -> bool:
        """Return whether values form a point: a legal value for each parameter, and no others."""
        if not isinstance(values, dict) or values.keys() != self.parameters.keys():
            return False
        return all(each.holds(values[name]) for name, each in self.parameters.items())

    def describe(self) -> dict[str, Any]:
        """Return the space as plain data, for comparison and storage."""
        return {name: {type(each).__name__: asdict(each)} for name, each in self.parameters.items()}  # type: ignore[call-overload]


def _distribution(description: Any) -> ParameterDistribution:
    if not isinstance(description, dict) or len(description) != 1 or next(iter(description)) not in KINDS:
        raise SpaceError(f"takes one of {', '.join(KINDS)}, e.g. {{choice: [1, 2]}}; got {description}")
    kind, given = next(iter(description.items()))
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise SpaceError(f"{kind} takes a list, got {given}")
    if kind == "choice":
        return Choice(tuple(given))
    if len(given) != 2:
        raise SpaceError(f"{kind} takes two ends, [low, high], got {given}")
    return Uniform(*given) if kind == "uniform" else LogUniform(*given)
