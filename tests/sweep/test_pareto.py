"""The frontier against brute force; areas and rates against what can be computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitlearn.sweep import bd_rate, evenly_spaced_rates, frontier_of, hypervolume, pareto_frontier, rate_at

numbers = st.one_of(st.integers(0, 4).map(float), st.floats(width=32))


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(st.lists(st.tuples(numbers, numbers), max_size=30))
def test_the_frontier_is_what_brute_force_finds(points: list[tuple[float, float]]) -> None:
    valid = [p for p in points if not any(map(math.isnan, p))]
    expected = [p in valid and not any(dominates(other, p) for other in valid) for p in points]
    assert pareto_frontier(points).tolist() == expected


def test_ties_are_kept_and_nan_is_not() -> None:
    points = [(1, 0.5), (1, 0.5), (1, 0.4), (2, 0.5), (3, 0.9), (math.nan, 1.0), (0.1, math.nan)]
    assert pareto_frontier(points).tolist() == [True, True, False, False, True, False, False]
    np.testing.assert_array_equal(frontier_of(points), [[1, 0.5], [3, 0.9]])


def test_hypervolume_of_two_steps() -> None:
    assert hypervolume([(1, 0.5), (2, 0.8), (2.5, 0.7)], 4, 0.1) == pytest.approx(1 * 0.4 + 2 * 0.7)
    assert hypervolume([(5, 0.9)], 4, 0.1) == 0
    assert hypervolume([], 4, 0.1) == 0


@given(st.floats(0.1, 10))
def test_bd_rate_of_a_scaled_curve_is_the_scale(scale: float) -> None:
    curve = np.array([(1.0, 0.5), (2.0, 0.7), (4.0, 0.8), (9.0, 0.85)])
    assert bd_rate(curve * [scale, 1], curve) == pytest.approx(100 * (scale - 1), abs=1e-9)


def test_bd_rate_counts_shared_accuracies_alone() -> None:
    baseline = [(1.0, 0.5), (2.0, 0.6), (4.0, 0.7)]  # log rate is a line
    ours = [(1.0, 0.6), (2.0, 0.7), (4.0, 0.8)]
    assert bd_rate(ours, baseline) == pytest.approx(-50)
    assert bd_rate([*ours, (3.0, 0.65)], baseline) == pytest.approx(-50)  # beaten by another of ours


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1.0, 0.5)], "two points or more, got 1"),
        ([(0.0, 0.5), (1.0, 0.7)], "rates above zero"),
        ([(1.0, 0.1), (2.0, 0.2)], r"share no accuracies: 0\.1…0\.2 against 0\.5…0\.7"),
    ],
)
def test_curves_that_cannot_be_compared_are_told(points: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bd_rate(points, [(1.0, 0.5), (2.0, 0.7)])


def test_rate_at_an_accuracy() -> None:
    points = [(1.0, 0.5), (4.0, 0.7), (3.0, 0.4)]
    assert rate_at(points, 0.6) == pytest.approx(2.0)
    assert rate_at(points, 0.7) == pytest.approx(4.0)
    assert rate_at(points, 0.3) == 1.0
    assert math.isnan(rate_at(points, 0.71))
    assert math.isnan(rate_at([], 0.5))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, 2\), rate and accuracy, got \(2, 3\)"):
        pareto_frontier([(1, 2, 3), (4, 5, 6)])


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.integers(1, 8))
def test_spread_is_as_even_as_brute_force_finds(rates: list[float], count: int) -> None:
    chosen = [rates[i] for i in evenly_spaced_rates(rates, count)]
    different = sorted(set(rates))
    if count == 1:
        assert chosen == [different[-1]]
    elif len(different) <= count:
        assert chosen == different
    else:
        assert chosen == sorted(set(chosen))
        assert (len(chosen), chosen[0], chosen[-1]) == (count, different[0], different[-1])
        ways = combinations(different[1:-1], count - 2)
        best = min(steps((different[0], *way, different[-1])) for way in ways)
        assert steps(chosen) == pytest.approx(best)


def steps(rates: Sequence[float]) -> float:
    return sum(math.log(b / a) ** 2 for a, b in pairwise(rates))


def test_spread_is_of_positive_numbers() -> None:
    assert evenly_spaced_rates([8, 1, 2, 4, 16], 3) == [1, 3, 4]
    for rates, count in (([1.0, 0.0], 1), ([1.0, math.nan], 2), ([1.0], 0)):
        with pytest.raises(ValueError, match="must be positive"):
            evenly_spaced_rates(rates, count)
