"""Clipping limits: closed forms against numeric minimisation, and both against simulation."""

import pytest
import torch
from torch import Tensor

from splitlearn.quantizers import Clipped, LaplaceLimits, LatentStatistics, LeastError, Limits, ReluLimits
from splitlearn.quantizers.laplace import AsymmetricLaplace
from splitlearn.quantizers.limits import squared_error, unit_limit

GOLDEN = {2: 2.000, 3: 2.90, 4: 3.49, 8: 4.82}


def asymmetric(shape: tuple[int, ...], rate: float, mode: float, asymmetry: float) -> Tensor:
    """Draws of X: the difference of two exponentials."""
    generator = torch.Generator().manual_seed(0)
    upper, lower = (torch.empty(shape, dtype=torch.float64).exponential_(generator=generator) for _ in range(2))
    return mode + upper / (rate * asymmetry) - lower * asymmetry / rate


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


@pytest.mark.parametrize("levels", GOLDEN)
def test_the_relu_short_cut_is_the_papers_constant(levels: int) -> None:
    assert unit_limit(levels) == pytest.approx(GOLDEN[levels], rel=0.005)


@pytest.mark.parametrize("levels", GOLDEN)
def test_the_short_cut_is_where_a_simulation_errs_least(levels: int) -> None:
    """Zeros where the pre-activation is negative; 0 and a·c1 = constant must be within 2 % of the best error."""
    latents = torch.relu(asymmetric((1, 400_000), rate=2.0, mode=-0.7, asymmetry=0.5))
    statistics = LatentStatistics.of(latents)
    low, high = ReluLimits().of(statistics, levels)
    assert float(low) == 0
    assert float(high) == pytest.approx(GOLDEN[levels], rel=0.02)  # rate · asymmetry is 1
    candidates = torch.linspace(0.2, 8, 400, dtype=torch.float64)[None]
    errors = squared_error(statistics, torch.zeros_like(candidates), candidates, levels)
    found = squared_error(statistics, low[:, None], high[:, None], levels)
    assert float(found) <= 1.02 * float(errors.min())


@pytest.mark.parametrize("levels", [2, 3, 4, 8])
@pytest.mark.parametrize(("slope", "mode"), [(0.0, -1.43), (0.1, -1.43), (1.0, -0.4), (0.1, 0.3)])
def test_model_and_measurement_agree(slope: float, mode: float, levels: int) -> None:
    latents = leaky(asymmetric((4, 100_000), 0.77, mode, 0.5), slope)
    statistics = LatentStatistics.of(latents)
    errors = []
    for rule in (LeastError(), LaplaceLimits(slope)):
        quantizer = Clipped.between(*rule.of(statistics, levels), levels)
        errors.append(float((quantizer(latents.float()).double() - latents).square().mean()))
    assert errors[0] <= errors[1] * 1.001
    assert errors[1] <= errors[0] * 1.02


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("mode", [-3.0, -0.5, 0.0, 2.0])
def test_model_integrates_its_density(slope: float, mode: float) -> None:
    """Cumulative moments are those of samples, at every point and at infinity."""
    model = AsymmetricLaplace(torch.tensor([1.3]), torch.tensor([mode]), slope, 0.7)
    samples = leaky(asymmetric((1, 1_000_000), 1.3, mode, 0.7), slope)
    points = torch.tensor([[-2.0, -0.3, 0.0, 0.1, 0.9, 3.0, float("inf")]], dtype=torch.float64)
    below = samples[..., None] <= points
    expected = torch.stack([(below * samples[..., None] ** k).double().mean(1) for k in range(3)])
    torch.testing.assert_close(model.cumulative(points), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("slope", "mode"), [(0.0, -1.43), (0.0, 1.0), (0.1, -1.43), (1.0, 0.5)])
def test_fit_finds_the_parameters_again(slope: float, mode: float) -> None:
    true = AsymmetricLaplace(torch.tensor([0.77, 7.7]), torch.tensor([mode, mode / 10]), slope)
    fitted = AsymmetricLaplace.fit(*true.moments(), slope)
    torch.testing.assert_close(fitted.rate, true.rate.double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(fitted.mode, true.mode.double(), rtol=1e-4, atol=1e-5)


def test_channels_have_limits_of_their_own() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(6, 3, 20, 20, generator=generator) * torch.tensor([1.0, 5.0, 0.0])[:, None, None] + 2.0
    low, high = LeastError().of(LatentStatistics.of(latents, per_channel=True), 6)
    assert (float(low[2]), float(high[2])) == (2.0, 2.0)  # a channel of one value
    assert float((high[1] - 2) / (high[0] - 2)) == pytest.approx(5, rel=0.2)
    quantizer = Clipped.between(low, high, 6)
    assert torch.equal(quantizer(latents)[:, 2], latents[:, 2])
    alone = LeastError().of(LatentStatistics.of(latents[:, 1:2]), 6)
    assert float(alone[1]) == pytest.approx(float(high[1]), rel=1e-9)


@pytest.mark.parametrize("rule", [LeastError(), LaplaceLimits(), LaplaceLimits(0.1), ReluLimits()])
def test_limits_follow_the_scale_of_the_latents(rule: Limits) -> None:
    latents = torch.relu(torch.randn(2, 5000, generator=torch.Generator().manual_seed(2)))
    low, high = rule.of(LatentStatistics.of(latents), 4)
    far_low, far_high = rule.of(LatentStatistics.of(latents * 1e4), 4)
    torch.testing.assert_close(far_low, low * 1e4, rtol=1e-3, atol=1)
    torch.testing.assert_close(far_high, high * 1e4, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.empty(0, 3), "there are no latents to calibrate with"),
        (torch.tensor([[1.0, float("nan")]]), "hold NaN or infinity"),
        (torch.tensor([[1.0, float("inf")]]), "hold NaN or infinity"),
    ],
)
def test_latents_that_calibrate_nothing_are_refused(latents: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentStatistics.of(latents)


def test_vectors_have_no_channels_without_an_axis() -> None:
    with pytest.raises(ValueError, match="have no channels: calibrate per tensor"):
        LatentStatistics.of(torch.randn(5), per_channel=True)


@pytest.mark.parametrize("rule", [ReluLimits(), LaplaceLimits()])
def test_rules_after_relu_refuse_negative_latents(rule: Limits) -> None:
    with pytest.raises(ValueError, match="after ReLU, and the smallest of these is"):
        rule.of(LatentStatistics.of(torch.randn(2, 100)), 4)


def test_impossible_models_are_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="slope"):
        AsymmetricLaplace(one, one, slope=1.5)
    with pytest.raises(ValueError, match="asymmetry"):
        AsymmetricLaplace(one, one, asymmetry=0.0)
    with pytest.raises(ValueError, match=r"slope below zero must lie in 0…1, got -0.1"):
        LaplaceLimits(-0.1)
    with pytest.raises(ValueError, match="asymmetry must be a positive number"):
        LaplaceLimits(asymmetry=float("nan"))
