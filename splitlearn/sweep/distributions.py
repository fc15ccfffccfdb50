"""Distributions of the parameters of a sweep."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import optuna

Value = int | float | str


class SpaceError(ValueError):
    """A search space is not valid; the message names the parameter and the remedy."""


class ParameterDistribution(ABC):
    """Distribution of one parameter."""

    @classmethod
    @abstractmethod
    def of(cls, given: Sequence[Any]) -> Self:
        """Return the distribution that a list in a space file describes; raises SpaceError if it describes none."""

    @abstractmethod
    def at(self, share: float) -> Value:
        """Return the value below which a share of the distribution lies; the share is in [0, 1)."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Return whether a value lies in the support of the distribution."""

    @abstractmethod
    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the value that Optuna suggests for a trial, which records it by the parameter's name."""

    def draw(self, random: np.random.Generator) -> Value:
        """Return one value."""
        return self.at(float(random.random()))

    def describe(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain data."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


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

    @classmethod
    def of(cls, given: Sequence[Any]) -> Self:
        """Return the choice between the values of a list."""
        return cls(tuple(given))

    def at(self, share: float) -> Value:
        """Return the value at a share of the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def draw(self, random: np.random.Generator) -> Value:
        """Return one of the values."""
        return self.values[int(random.integers(len(self.values)))]

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return any(type(each) is type(value) and each == value for each in self.values)

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the value that Optuna suggests."""
        found: Value = trial.suggest_categorical(name, self.values)
        return found


@dataclass(frozen=True)
class Range(ParameterDistribution):
    """Numbers between two limits.

    Attributes:
        low: smallest value.
        high: largest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (self.low, self.high))
        if not (numbers and -sys.float_info.max <= self.low < self.high <= sys.float_info.max):
            raise SpaceError(
                f"a range goes from a number to a larger one, without quotes, got {self.low} to {self.high}"
            )

    @classmethod
    def of(cls, given: Sequence[Any]) -> Self:
        """Return the range between the two ends in a list."""
        if len(given) != 2:
            raise SpaceError(f"a range takes two ends, [low, high], got {given}")
        return cls(*given)


@dataclass(frozen=True)
class Uniform(Range):
    """A number from a uniform distribution between two limits."""

    def at(self, share: float) -> Value:
        """Return the number at a share of the range."""
        return self.low + share * (self.high - self.low)

    def draw(self, random: np.random.Generator) -> Value:
        """Return a number."""
        return float(random.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number between the limits."""
        return type(value) in (int, float) and self.low <= value <= self.high

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the number that Optuna suggests."""
        return float(trial.suggest_float(name, self.low, self.high))


@dataclass(frozen=True)
class LogUniform(Range):
    """A positive number from a log-uniform distribution, where every order of magnitude is equally likely.

    The smallest value must be above zero.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise SpaceError(f"log_uniform needs numbers above zero, got {self.low} to {self.high}")

    def at(self, share: float) -> Value:
        """Return the number at a share of the orders of magnitude."""
        low, high = math.log(self.low), math.log(self.high)
        return min(max(math.exp(low + share * (high - low)), self.low), self.high)

    def draw(self, random: np.random.Generator) -> Value:
        """Return a number."""
        return float(math.exp(random.uniform(math.log(self.low), math.log(self.high))))

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number between the limits, within the rounding of logarithms."""
        return type(value) in (int, float) and self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the number that Optuna suggests."""
        return float(trial.suggest_float(name, self.low, self.high, log=True))


@dataclass(frozen=True)
class Int(Range):
    """An integer between two limits, both included, all equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(type(end) is int and abs(end) <= 2**53 for end in (self.low, self.high)):
            raise SpaceError(f"an integer range goes from one integer to another, got {self.low} to {self.high}")

    def at(self, share: float) -> Value:
        """Return the integer at a share of the range."""
        return int(min(self.low + int(share * (self.high - self.low + 1)), self.high))

    def holds(self, value: Any) -> bool:
        """Return whether a value is an integer between the limits."""
        return type(value) is int and self.low <= value <= self.high

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the integer that Optuna suggests."""
        return int(trial.suggest_int(name, int(self.low), int(self.high)))


@dataclass(frozen=True)
class LogInt(Int):
    """A positive integer, where every order of magnitude is about equally likely: log-uniform numbers, rounded.

    The smallest value must be above zero.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1:
            raise SpaceError(f"log_int needs integers above zero, got {self.low} to {self.high}")

    def at(self, share: float) -> Value:
        """Return the integer at a share of the orders of magnitude."""
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return int(min(max(round(math.exp(low + share * (high - low))), self.low), self.high))

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Return the integer that Optuna suggests."""
        return int(trial.suggest_int(name, int(self.low), int(self.high), log=True))
