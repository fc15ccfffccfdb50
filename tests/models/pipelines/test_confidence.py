import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from splitlearn import models
from splitlearn.discovery import concrete_classes
from splitlearn.models import Confidence, LowEntropy, Margin, MaximumSoftmax, calibration_error, fit_temperature

RULES = concrete_classes(models, Confidence)


def test_all_rules_are_known() -> None:
    assert {rule.__name__ for rule in RULES} == {"LowEntropy", "Margin", "MaximumSoftmax"}


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.floats(0, 60), st.integers(0, 2**31))
def test_confidence_lies_between_0_and_1(rule: type[Confidence], classes: int, scale: float, seed: int) -> None:
    logits = scale * torch.randn(20, classes, generator=torch.Generator().manual_seed(seed))
    found = rule()(logits)
    assert found.shape == (20,)
    assert found.min() >= 0
    assert found.max() <= 1


def test_rules_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]]).log()
    assert torch.allclose(MaximumSoftmax()(logits), torch.tensor([0.5, 1 / 3]))
    assert torch.allclose(Margin()(logits), torch.tensor([0.2, 0.0]), atol=1e-6)
    bits = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2)) / math.log(3)
    assert torch.allclose(LowEntropy()(logits), torch.tensor([1 - bits, 0.0]), atol=1e-6)
    assert all(rule()(torch.tensor([[90.0, 0, 0]])).item() == pytest.approx(1) for rule in RULES)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_that_spoilt_logits_is_found(temperature: float) -> None:
    honest = 3 * torch.randn(20000, 5)
    labels = torch.multinomial(honest.softmax(1), 1)[:, 0]
    found = fit_temperature(honest * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    best = functional.cross_entropy(honest * temperature / found, labels)
    for other in (0.9 * found, 1.1 * found):
        assert best < functional.cross_entropy(honest * temperature / other, labels)
    for scale, small in ((temperature, temperature == 1), (temperature / found, True)):
        confidences, classes = (honest * scale).softmax(1).max(1)
        assert (calibration_error(confidences, classes == labels) < 0.015) == small


def test_temperature_needs_images_and_finite_logits() -> None:
    for bad in (torch.zeros(0, 3), torch.full((2, 3), torch.nan)):
        with pytest.raises(ValueError, match="finite"):
            fit_temperature(bad, torch.zeros(len(bad), dtype=torch.long))


def test_logits_that_are_always_right_or_flat_have_an_extreme_temperature() -> None:
    assert fit_temperature(torch.eye(3), torch.arange(3)) < 0.01
    assert fit_temperature(torch.eye(3), torch.tensor([1, 2, 0])) > 100


def test_calibration_error_by_hand() -> None:
    confidences = torch.tensor([1.0, 0.9, 0.95, 0.3])
    correct = torch.tensor([True, False, True, False])
    assert calibration_error(confidences, correct, bins=2) == pytest.approx((abs(2.85 - 2) + 0.3) / 4)
    assert math.isnan(calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))
