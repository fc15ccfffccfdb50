"""Symbols of videos stay as they are until a value has left its level clearly, alike in torch and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitlearn.numpy_quantizers import MinMaxGrid, StepGrid, StickyGrid
from splitlearn.quantizers import Affine, Clipped, GainedStep, MinMax, Quantizer, Step, Sticky


def per_channel() -> Clipped:
    return Clipped.between(torch.tensor([-1.0, 0.0, -2.0]), torch.tensor([1.0, 3.0, 2.5]), 5)


def uneven() -> Clipped:
    values = torch.tensor([[-1.0, 0.0, 0.5, 2.0]]).double()
    return Clipped.with_levels(values, torch.tensor([[-0.7, 0.3, 1.5]]).double())


def gained() -> GainedStep:
    quantizer = GainedStep(channels=3, levels=16)
    with torch.no_grad():
        quantizer.gains.copy_(torch.tensor([[0.5, 1.0, 3.0]]))
    return quantizer.eval()


QUANTIZERS = {
    "Step": lambda: Step(0.5, 16),
    "Affine": lambda: Affine(0.25, 3, 16),
    "Clipped": lambda: Clipped(-1.0, 1.0, 8),
    "Clipped for each channel": per_channel,
    "Clipped, uneven": uneven,
    "GainedStep": gained,
}
MARGINS = st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.5])


def frames(seed: int) -> torch.Tensor:
    """Return a video of six frames `(6, 3, 5, 7)` that drift and flicker."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.randn(1, 3, 5, 7, generator=generator)
    return still + 0.1 * torch.randn(6, 3, 5, 7, generator=generator)


@pytest.mark.parametrize("name", QUANTIZERS)
@settings(deadline=None)
@given(seed=st.integers(0, 2**31), margin=MARGINS)
def test_numpy_and_torch_agree_and_errors_are_bounded(name: str, seed: int, margin: float) -> None:
    quantizer: Quantizer = QUANTIZERS[name]()
    sticky = Sticky(quantizer, margin)
    assert quantizer.grid is not None
    grid = StickyGrid(quantizer.grid, margin)
    before, before_array = None, None
    lows, highs = quantizer.grid.intervals(margin)
    for latent in torch.split(frames(seed), 1):
        symbols, floats = sticky.quantize(latent, before)
        array, own = grid.quantize(latent[0].numpy(), before_array)
        np.testing.assert_array_equal(array, symbols[0].numpy(), strict=True)
        assert own == tuple(floats[0].tolist()) == ()
        plain, _ = quantizer.quantize(latent)
        if before is None or margin == 0:
            assert torch.equal(symbols, plain)
        else:
            assert bool(((symbols == plain) | (symbols == before)).all())
        rows = np.arange(3)[:, None, None] if len(lows) > 1 else 0
        values = latent[0].numpy()
        inside = (lows[rows, array] <= values) & (values <= highs[rows, array])
        assert inside.all() or margin == 0
        before, before_array = symbols, array


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), margin=MARGINS)
def test_the_error_is_at_most_half_a_step_and_the_margin(seed: int, margin: float) -> None:
    quantizer = Step(0.5, 64)
    sticky, before = Sticky(quantizer, margin), None
    for latent in torch.split(frames(seed), 1):
        before, floats = sticky.quantize(latent, before)
        error = (quantizer.dequantize(before, floats) - latent).abs().max()
        assert float(error) <= 0.5 * (0.5 + margin) * (1 + 1e-6)


def test_noise_around_a_threshold_changes_nothing() -> None:
    grid, before = StickyGrid(StepGrid(1.0, 16), 0.15), None
    seen = []
    for value in (0.45, 0.55, 0.6, 0.64, 0.7, 0.55, 0.4, 0.36, 0.3):
        before, _ = grid.quantize(np.array([value], np.float32), before)
        seen.append(int(before[0]))
    assert seen == [0, 0, 0, 0, 2, 2, 2, 2, 0]  # 2 is the symbol of one step


def test_values_beyond_the_levels_keep_the_outermost() -> None:
    grid = StickyGrid(StepGrid(1.0, 4), 0.5)
    latent = np.array([-9.0, 9.0, 1e38], np.float32)
    symbols, _ = grid.quantize(latent)
    again, _ = grid.quantize(latent * np.float32(0.9), symbols)
    assert np.array_equal(symbols, again)


def test_one_place_for_before_and_after() -> None:
    grid, rng = StickyGrid(StepGrid(0.5, 16), 0.3), np.random.default_rng(0)
    first, second = (rng.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
    before, _ = grid.quantize(first)
    wanted, _ = grid.quantize(second, before)
    given_back, _ = grid.quantize(second, before, out=before)
    assert given_back is before
    assert np.array_equal(before, wanted)


def test_levels_that_differ_from_frame_to_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="levels of MinMaxGrid differ from frame to frame"):
        StickyGrid(MinMaxGrid(4))
    with pytest.raises(ValueError, match="levels of MinMaxGrid differ from frame to frame"):
        Sticky(MinMax(4))


@pytest.mark.parametrize("margin", [-0.1, 0.51, float("nan")])
def test_margins_beyond_half_a_level_are_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin is 0…0\.5"):
        StickyGrid(StepGrid(), margin)
    with pytest.raises(ValueError, match=r"margin is 0…0\.5"):
        Sticky(Step(), margin)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (np.zeros((4, 3), np.uint8), r"the latent's shape \(3, 4\), got uint8 \(4, 3\)"),
        (np.zeros((3, 4), np.int64), r"got int64 \(3, 4\)"),
        ([0], "got list"),
        (np.full((3, 4), 16, np.uint8), "not below levels=16"),
    ],
)
def test_frames_before_that_do_not_fit_are_refused(before: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StickyGrid(StepGrid(0.5, 16)).quantize(np.zeros((3, 4), np.float32), before)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (torch.zeros(1, 4, 3, dtype=torch.uint8), r"got torch\.uint8 \(1, 4, 3\)"),
        (torch.zeros(1, 3, 4), r"got torch\.float32"),
        (torch.full((1, 3, 4), 16, dtype=torch.uint8), "not below levels=16"),
    ],
)
def test_tensors_before_that_do_not_fit_are_refused(before: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sticky(Step(0.5, 16)).quantize(torch.zeros(1, 3, 4), before)
