"""Constraints on the numbers of a model, such as `device_macs < 5e6`: a small language that is read, never run."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from splitlearn.sweep.distributions import SpaceError

LONGEST = 200  # characters of a constraint
SIGNS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
RELATIONS: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Constraint:
    """A condition on numbers: sums, products and quotients of names and numbers, compared by `<`, `<=`, `>` or `>=`.

    Attributes:
        text: the condition, e.g. `encoder_macs + decoder_macs <= 5e6`.

    Raises:
        SpaceError: if the text is no condition.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.names:
            raise self._wrong("it names no number of the model")

    @cached_property
    def names(self) -> list[str]:
        """The names in the condition, sorted."""
        return sorted({node.id for node in ast.walk(self._comparison) if isinstance(node, ast.Name)})

    def holds(self, numbers: Mapping[str, float]) -> bool:
        """Return whether the condition is true of numbers by name; raises SpaceError if it divides by zero."""
        terms = [self._comparison.left, *self._comparison.comparators]
        try:
            values = [self._value(term, numbers) for term in terms]
        except ZeroDivisionError:
            told = ", ".join(f"{name} = {numbers[name]:g}" for name in self.names)
            raise SpaceError(f"where: {self.text} divides by zero at {told}") from None
        pairs = zip(self._comparison.ops, values, values[1:], strict=False)
        return all(RELATIONS[type(sign)](one, other) for sign, one, other in pairs)

    @cached_property
    def _comparison(self) -> ast.Compare:
        if len(self.text) > LONGEST:
            raise self._wrong(f"it is longer than {LONGEST} characters")
        try:
            found = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._wrong("it cannot be read") from None
        if not isinstance(found, ast.Compare) or any(type(sign) not in RELATIONS for sign in found.ops):
            raise self._wrong("it compares nothing by <, <=, > or >=")
        for term in (found.left, *found.comparators):
            self._value(term, None)
        return found

    def _value(self, node: ast.expr, numbers: Mapping[str, float] | None) -> float:
        """Return the value of a term; without numbers, only check it: raises SpaceError if it is no term."""
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and math.isfinite(value):
                return float(value)
            case ast.Name(id=name):
                return float(numbers[name]) if numbers is not None else 1.0
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, numbers)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in SIGNS:
                one, other = self._value(left, numbers), self._value(right, numbers)
                return SIGNS[type(sign)](one, other) if numbers is not None else 1.0
        raise self._wrong(f"{ast.unparse(node)} is neither name, number, sum, product nor quotient")

    def _wrong(self, reason: str) -> SpaceError:
        return SpaceError(f"where takes conditions such as device_macs < 5e6, got {self.text[:LONGEST]!r}: {reason}")
