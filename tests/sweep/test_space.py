"""Spaces: what is drawn, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from splitlearn.sweep import Choice, Int, LogInt, LogUniform, Space, SpaceError, Uniform

SPACE = Space({"a.b": Choice((32, 64)), "c": Uniform(1, 16), "d": LogUniform(1e-4, 1e-1)})


def test_points_depend_on_seed_and_number_alone() -> None:
    first = [SPACE.point(3, number) for number in range(20)]
    assert [SPACE.point(3, number) for number in reversed(range(20))] == first[::-1]
    assert len({str(point) for point in first}) == 20
    assert SPACE.point(4, 0) != first[0]


def test_draws_fill_their_ranges() -> None:
    points = [SPACE.point(0, number) for number in range(1000)]
    assert {point["a.b"] for point in points} == {32, 64}
    steps = [float(point["c"]) for point in points]
    assert 1 <= min(steps) < 1.2
    assert 15.8 < max(steps) <= 16
    assert 440 < sum(float(point["d"]) < 10**-2.5 for point in points) < 560  # the middle of the exponents


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("a.b: {choice: [32, 64]}\nc: {uniform: [1, 16]}\nd: {log_uniform: [1.0e-4, 1.0e-1]}\n")
    assert Space.read(file) == SPACE
    assert Space.read(file).describe() == SPACE.describe()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-3, 1E3, -1e-3, +2.5e+3", (0.001, 1000.0, -0.001, 2500.0)),
        (".5, 5., 1_000, 1_0.5", (0.5, 5.0, 1000, 10.5)),
        ("010, 0, -7", (10, 0, -7)),
        ("yes, no, on, off, true, null, ~", ("yes", "no", "on", "off", "true", "null", "~")),
        ("inf, nan, 1e, e3, 0x10, 1:30, 2024-01-01", ("inf", "nan", "1e", "e3", "0x10", "1:30", "2024-01-01")),
        ("'1e-3', \"050\", layer2.0, splitlearn.codecs.RANS", ("1e-3", "050", "layer2.0", "splitlearn.codecs.RANS")),
    ],
)
def test_numbers_are_numbers_and_words_are_words(tmp_path: Path, text: str, values: tuple[object, ...]) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"a: {{choice: [{text}]}}\nb: {{log_uniform: [1e-4, 1E-1]}}\nc: {{uniform: [-.5, 1_000]}}\n")
    found = Space.read(file).parameters
    assert found == {"a": Choice(values), "b": LogUniform(1e-4, 1e-1), "c": Uniform(-0.5, 1000)}  # type: ignore[arg-type]
    assert [type(value) for value in found["a"].values] == [type(value) for value in values]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no parameters"),
        ("[1, 2]", "holds no parameters"),
        ("a: [", "is not valid YAML"),
        ("a: {choice: []}", "a: a choice needs one value or more"),
        ("a: {choice: [[1]]}", "a choice is between numbers or words"),
        ("a: {uniform: [2, 1]}", "a: a range goes from a number to a larger one, without quotes, got 2 to 1"),
        ("a: {uniform: [1, 1]}", "got 1 to 1"),
        ("a: {uniform: [1, 2, 3]}", r"a: a range takes two ends, \[low, high\]"),
        ("a: {uniform: 3}", "uniform takes a list, got 3"),
        ("a: {log_uniform: [0, 1]}", "log_uniform needs numbers above zero"),
        ("a: {uniform: [x, 1]}", "got x to 1"),
        ("a: {uniform: ['1e-3', 1]}", "without quotes, got 1e-3 to 1"),
        ("a: {uniform: [0, 1e309]}", "got 0 to inf"),
        ("a: {uniform: [0, inf]}", "got 0 to inf"),
        ("a: {log_uniform: [1e-3, .inf]}", r"got 0\.001 to \.inf"),
        ("a: {uniform: [no, yes]}", "got no to yes"),
        ("a: {uniform: [false, true]}", "got false to true"),
        ("a: {choice: [1e309]}", "a choice is between finite numbers or words"),
        ("a: {normal: [0, 1]}", "takes one of choice, uniform, log_uniform"),
        ("a: 3", "takes one of choice, uniform, log_uniform"),
    ],
)
def test_spaces_that_cannot_be_drawn_from_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(SpaceError, match=message):
        Space.read(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no space at"):
        Space.read(tmp_path / "none.yaml")


def test_a_space_holds_what_it_draws_and_nothing_else() -> None:
    space = Space({"a": Choice((1, "no", 0.5)), "b": Uniform(-1, 1), "c": LogUniform(1e-3, 2)})
    assert all(space.holds(space.point(0, number)) for number in range(100))
    ends = [math.exp(math.log(end)) for end in (1e-3, 2)]
    assert all(space.holds({"a": 1, "b": 0, "c": end}) for end in ends)
    for wrong in ({"a": True}, {"a": 1.0}, {"b": True}, {"b": 1.1}, {"b": math.nan}, {"c": 0}, {"c": "1"}, {"d": 1}):
        assert not space.holds({"a": 1, "b": 0, "c": 1} | wrong)
    assert not space.holds({"a": 1, "b": 0})


CONDITIONAL = """
channels: {log_int: [8, 64]}
layers: {int: [1, 3]}
quantizer: {choice: [Step, MinMax, Clipped]}
step: {uniform: [0.25, 4], when: {quantizer: Step}}
bits: {int: [2, 6], when: {quantizer: [MinMax, Clipped], layers: [1, 2]}}
where: [device_macs < 5e6, parameters < 2e4]
"""


def test_a_space_with_integers_and_conditions(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(CONDITIONAL)
    space = Space.read(file)
    assert space.parameters["channels"] == LogInt(8, 64)
    assert [each.text for each in space.where] == ["device_macs < 5e6", "parameters < 2e4"]
    assert Space.from_description(json.loads(json.dumps(space.describe()))) == space
    points = [space.point(0, number) for number in range(300)]
    for point in points:
        assert space.holds(point)
        assert ("step" in point) == (point["quantizer"] == "Step")
        assert ("bits" in point) == (point["quantizer"] != "Step" and point["layers"] != 3)
    assert {type(value) for p in points for name, value in p.items() if name in ("channels", "layers", "bits")} == {int}
    assert {point["layers"] for point in points} == {1, 2, 3}
    channels = sorted(int(point["channels"]) for point in points)
    assert (channels[0], channels[-1]) == (8, 64)
    assert 17 <= channels[150] <= 28  # the middle of the orders of magnitude, 22.6
    one = next(point for point in points if "step" in point)
    assert not space.holds({**one, "bits": 3})
    assert not space.holds({name: value for name, value in one.items() if name != "step"})
    assert not space.holds(one | {"channels": 8.0})
    file.write_text("a: {int: [0, 1]}\nwhere: device_macs < 5e6\n")
    assert [each.text for each in Space.read(file).where] == ["device_macs < 5e6"]


def test_every_integer_is_as_likely_at_even_shares() -> None:
    values = [Int(3, 6).at(share / 400) for share in range(400)]
    assert [values.count(value) for value in (3, 4, 5, 6)] == [100] * 4
    for each in (Int(3, 6), LogInt(1, 1000), LogUniform(1e-4, 0.1), Uniform(-1, 2), Choice((1, "a"))):
        assert all(each.holds(each.at(share)) for share in (0.0, 0.3, 1 - 2**-53))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {int: [1, 2.5]}", "an integer range goes from one integer to another, got 1 to 2.5"),
        ("a: {int: [2, 1]}", "a range goes from a number to a larger one"),
        ("a: {log_int: [0, 4]}", "log_int needs integers above zero, got 0 to 4"),
        ("a: {int: [0, 1e3]}", "an integer range goes"),
        ("a: {int: [0, 1], when: 3}", r"when takes a value of another parameter, \{PATH: VALUE\}, got 3"),
        ("a: {int: [0, 1], when: {b: 1}}\nb: {choice: [1]}", "a: its when names b, which must be a parameter above it"),
        ("b: {choice: [1]}\na: {int: [0, 1], when: {b: 2}}", "a: its when asks for b 2, which is never drawn"),
        ("b: {choice: [1]}\na: {int: [0, 1], when: {b: '1'}}", "a: its when asks for b 1, which is never drawn"),
        ("a: {when: {b: 1}}", "takes one of choice, uniform, log_uniform, int, log_int"),
        ("a: {int: [0, 1]}\nwhere: 3", r"where takes conditions such as \[device_macs < 5e6\], got 3"),
        ("a: {int: [0, 1]}\nwhere: [import os]", "space.yaml: where takes conditions .*: it cannot be read"),
        ("where: [a < 1]", "space.yaml: the space is empty"),
    ],
)
def test_integers_and_conditions_that_mean_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(SpaceError, match=message):
        Space.read(file)
