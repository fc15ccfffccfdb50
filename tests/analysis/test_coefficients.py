"""Distributions are exact, zeros are counted, and what cannot be described is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.analysis import coefficients, distribution, quantized_zeros
from splitlearn.analysis.coefficients import spread
from splitlearn.analysis.distribution import SHARES
from splitlearn.quantizers import MinMax


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60))
def test_quantiles_are_those_of_the_empirical_cdf(values: list[float]) -> None:
    found = distribution(torch.tensor(values), "x")
    array = np.array(values, np.float32)
    assert (found.quantiles[0], found.quantiles[-1]) == (found.minimum, found.maximum) == (array.min(), array.max())
    for share, value in zip(SHARES, found.quantiles, strict=True):
        assert (array <= value).mean() >= share - 1e-9
        assert (array < value).mean() < share or value == found.minimum
    assert found.count == len(values)
    assert found.zeros == (array == 0).mean()
    assert found.mean == pytest.approx(array.mean(dtype=np.float64), abs=1e-9)
    assert found.std == pytest.approx(array.std(dtype=np.float64), abs=1e-9)


def test_half_zeros_stand_upright_in_the_cdf() -> None:
    found = distribution(torch.tensor([0.0, 2.0, 0.0, 1.0]), "x")
    assert found.zeros == 0.5
    assert found.range == 2
    assert set(found.quantiles[:251]) == {0.0}
    assert found.quantiles[251] == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(bad: float) -> None:
    values = torch.ones(3, 2)
    values[1, 1] = bad
    with pytest.raises(ValueError, match="x: NaN or infinity"):
        distribution(values, "x")
    with pytest.raises(ValueError, match="features of image 1 hold NaN or infinity: check weights"):
        coefficients(values)


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (3, 0, 2, 2), (3,)])
def test_nothing_to_describe(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="there is nothing to analyse"):
        coefficients(torch.zeros(shape))
    with pytest.raises(ValueError, match="there are no values"):
        distribution(torch.zeros(0), "x")


def test_integers_are_no_features() -> None:
    with pytest.raises(ValueError, match=r"features are floats, got torch\.int64"):
        coefficients(torch.zeros(2, 2, dtype=torch.int64))


def test_all_images_come_first_then_some_spread_evenly() -> None:
    features = torch.arange(7.0)[:, None, None, None].expand(7, 2, 3, 4)
    found = coefficients(features, samples=3)
    assert [d.name for d in found] == ["all images", "image 0", "image 3", "image 6"]
    assert [d.maximum for d in found] == [6, 0, 3, 6]
    assert [d.count for d in found] == [168, 24, 24, 24]
    assert [d.name for d in coefficients(features[:2])] == ["all images", "image 0", "image 1"]
    assert spread(0, 4) == []


def test_features_of_half_precision_and_of_one_dimension() -> None:
    found = coefficients(torch.ones(2, 5, dtype=torch.bfloat16))
    assert found[0].minimum == found[0].maximum == 1
    assert found[0].std == 0


def test_zeros_after_quantization() -> None:
    torch.manual_seed(0)
    features = torch.randn(5, 3, 8, 8).relu()
    found = quantized_zeros(features, [2, 5])
    for row in found:
        symbols, _ = MinMax(row.bits).quantize(features)
        assert row.zeros == pytest.approx(float((symbols == 0).float().mean()))
        assert row.commonest == row.zeros  # after ReLU zero is the commonest
    assert [row.bits for row in found] == [2, 5]
    assert found[0].zeros > found[1].zeros > 0.4


def test_without_relu_the_commonest_symbol_is_not_the_smallest() -> None:
    (row,) = quantized_zeros(torch.randn(4, 1000), [4])
    assert row.zeros < 0.02
    assert row.commonest > 0.1


def test_constant_features_are_all_zeros() -> None:
    assert all(row.zeros == row.commonest == 1 for row in quantized_zeros(torch.full((2, 3, 2, 2), 5.0)))
