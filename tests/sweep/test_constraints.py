"""Conditions on numbers: what they mean, and that nothing but conditions is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.sweep import Constraint, SpaceError

NUMBERS = {"parameters": 20_000.0, "encoder_macs": 3e6, "decoder_macs": 1e6}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("parameters < 2e4", False),
        ("parameters <= 2e4", True),
        ("parameters > 19_999", True),
        ("1e4 <= parameters < 1e5", True),
        ("1e4 <= parameters < 1e4 + 1", False),
        ("encoder_macs + decoder_macs <= 4e6", True),
        ("encoder_macs - 2 * decoder_macs >= decoder_macs", True),
        ("encoder_macs / (decoder_macs + 1e6) > 1.5", False),
        (" -parameters < 0 ", True),
        ("encoder_macs - decoder_macs - 1e6 <= 1e6", True),
    ],
)
def test_conditions_mean_what_they_say(text: str, holds: bool) -> None:
    assert Constraint(text).holds(NUMBERS) is holds


def test_names_are_known() -> None:
    assert Constraint("encoder_macs + decoder_macs < 3 * parameters").names == [
        "decoder_macs",
        "encoder_macs",
        "parameters",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it cannot be read"),
        ("parameters <", "it cannot be read"),
        ("parameters", "it compares nothing by <, <=, > or >="),
        ("parameters == 3", "it compares nothing"),
        ("parameters in parameters", "it compares nothing"),
        ("parameters < 1 and parameters > 0", "it compares nothing"),
        ("1 < 2", "it names no number of the model"),
        ("__import__('os').system('true') < 1", "is neither name, number, sum, product nor quotient"),
        ("parameters.real < 1", "parameters.real is neither"),
        ("parameters[0] < 1", "is neither"),
        ("parameters ** parameters < 1", "is neither"),
        ("parameters % 2 < 1", "is neither"),
        ("(lambda: parameters)() < 1", "is neither"),
        ("'parameters' < parameters", "is neither"),
        ("True < parameters", "True is neither"),
        ("parameters < 1e999", "is neither"),
        ("(parameters := 1) < 2", "is neither"),
        ("\0 < parameters", "it cannot be read"),
        ("(" * 90 + "parameters" + ")" * 90 + " < 1" + " " * 30, "it is longer than 200 characters"),
    ],
)
def test_nothing_else_is_read(text: str, reason: str) -> None:
    with pytest.raises(SpaceError, match="where takes conditions such as device_macs < 5e6") as caught:
        Constraint(text)
    assert reason in str(caught.value)


def test_a_division_by_zero_is_told() -> None:
    with pytest.raises(SpaceError, match=r"encoder_macs / parameters < 3 divides by zero at encoder_macs = 5, param"):
        Constraint("encoder_macs / parameters < 3").holds({"parameters": 0, "encoder_macs": 5})


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        names = Constraint(text).names
    except SpaceError:
        return
    assert names
