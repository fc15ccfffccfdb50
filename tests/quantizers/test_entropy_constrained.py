"""Pinned entropy-constrained levels: the cost never rises, the ends stay, and it pays."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.quantizers import Clipped, LatentStatistics, LeastError
from splitlearn.quantizers.entropy_constrained import (
    CodeLengths,
    IdealLengths,
    TruncatedUnaryLengths,
    design_steps,
    entropy_constrained,
)
from splitlearn.testing import PROPERTY

BOTH = [IdealLengths(), TruncatedUnaryLengths()]


def statistics(seed: int, relu: bool = True, channels: int = 2) -> LatentStatistics:
    latents = torch.randn(3, channels, 300, generator=torch.Generator().manual_seed(seed))
    return LatentStatistics.of(latents.relu() if relu else latents, per_channel=True)


@PROPERTY
@given(
    seed=st.integers(0, 99),
    relu=st.booleans(),
    levels=st.integers(2, 16),
    weight=st.floats(0, 1),
    share=st.floats(0.3, 1.2),
    lengths=st.sampled_from(BOTH),
)
def test_cost_never_rises_and_ends_stay_pinned(
    seed: int, relu: bool, levels: int, weight: float, share: float, lengths: CodeLengths
) -> None:
    counted = statistics(seed, relu)
    low, high = share * counted.minimum, share * counted.maximum
    steps = design_steps(counted, low, high, levels, weight, lengths)
    for before, after in pairwise(steps):
        assert after.cost <= before.cost * (1 + 1e-12)
    for step in steps:
        assert torch.equal(step.values[:, 0], low)
        assert torch.equal(step.values[:, -1], high)
        assert (step.values.diff(dim=1) >= 0).all()
        assert (step.thresholds[:, 1:] >= step.thresholds[:, :-1]).all()
    Clipped.with_levels(steps[-1].values, steps[-1].thresholds)


@pytest.mark.parametrize("lengths", BOTH)
def test_thresholds_are_where_two_levels_cost_the_same(lengths: CodeLengths) -> None:
    """The formula of Cohen et al., where no bin is empty."""
    counted = statistics(0, channels=1)
    low, high = counted.minimum, counted.maximum
    before, after = design_steps(counted, low, high, 4, 0.02, lengths)[-2:]
    x, variance = before.values[0], float(counted.variance)
    bins = torch.cat([x[:1] - 1, before.thresholds[0], x[-1:] + 1])
    used = torch.histogram(counted.centres[0], bins=bins, weight=counted.counts[0]).hist
    bits = lengths.bits(used)
    expected = (x[:-1] + x[1:]) / 2 + 0.02 * variance * bits.diff() / (2 * x.diff())
    torch.testing.assert_close(after.thresholds[0], expected, rtol=1e-3, atol=1e-3)


def test_weight_trades_bits_for_error() -> None:
    counted = statistics(1)
    low, high = LeastError().of(counted, 8)
    ends = [design_steps(counted, low, high, 8, weight)[-1] for weight in (0.0, 0.02, 0.1, 0.5)]
    assert [e.rate for e in ends] == sorted((e.rate for e in ends), reverse=True)
    assert [e.distortion for e in ends] == sorted(e.distortion for e in ends)
    assert ends[0].rate - ends[-1].rate > 0.5


def test_it_beats_uniform_levels_at_their_own_weight() -> None:
    counted = statistics(2)
    low, high = LeastError().of(counted, 5)
    steps = design_steps(counted, low, high, 5, 0.2)
    assert steps[-1].cost < 0.97 * steps[0].cost


@pytest.mark.parametrize("lengths", BOTH)
def test_without_a_weight_levels_that_nothing_reaches_do_no_harm(lengths: CodeLengths) -> None:
    """Their code lengths are infinite, and 0 · ∞ is no number."""
    counted = statistics(0)
    low, high = counted.minimum, 2 * counted.maximum
    steps = design_steps(counted, low, high, 16, 0.0, lengths)
    assert len(steps) > 2
    assert steps[-1].distortion == min(step.distortion for step in steps) < steps[0].distortion


def test_quantizer_errs_as_designed() -> None:
    latents = torch.randn(4, 3, 500, generator=torch.Generator().manual_seed(3)).relu()
    counted = LatentStatistics.of(latents, per_channel=True)
    low, high = LeastError().of(counted, 4)
    quantizer = entropy_constrained(counted, low, high, 4, 0.03)
    final = design_steps(counted, low, high, 4, 0.03)[-1]
    error = float((quantizer(latents) - latents).square().mean() / counted.variance.mean())
    assert error == pytest.approx(final.distortion, rel=0.01)


def test_a_heavy_weight_empties_bins_in_order() -> None:
    counted = statistics(4)
    quantizer = entropy_constrained(counted, counted.minimum, counted.maximum, 9, 3.0)
    symbols, _ = quantizer.quantize(torch.randn(2, 2, 400).relu())
    assert len(set(symbols.flatten().tolist())) < 5


@pytest.mark.parametrize(("levels", "weight"), [(1, 0.1), (257, 0.1), (4, -0.1)])
def test_impossible_designs_are_refused(levels: int, weight: float) -> None:
    counted = statistics(0)
    with pytest.raises(ValueError, match="levels must lie in 2…256 and rate_weight"):
        design_steps(counted, counted.minimum, counted.maximum, levels, weight)


def test_code_lengths() -> None:
    assert TruncatedUnaryLengths().bits(torch.ones(4)).tolist() == [1, 2, 3, 3]
    assert IdealLengths().bits(torch.tensor([2.0, 1.0, 1.0, 0.0])).tolist() == [1, 2, 2, float("inf")]
