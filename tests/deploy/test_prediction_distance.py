"""How far predictions are from others, whatever a network's output is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from splitlearn.deploy import prediction_distance


def test_equal_predictions_have_no_distance() -> None:
    logits, maps = torch.randn(5, 10), torch.randn(5, 3, 4, 4)
    for prediction in (logits, maps, {"out": maps, "aux": [logits, (maps,)]}):
        assert prediction_distance(prediction, prediction) == pytest.approx(0, abs=1e-7)


def test_logits_are_compared_by_divergence() -> None:
    """½·ln((1/2)/(3/4)) + ½·ln((1/2)/(1/4)) = ½·ln(4/3) in the first image, nothing in the second."""
    reference = torch.zeros(2, 2)
    prediction = torch.tensor([[math.log(3), 0.0], [7.0, 7.0]])
    assert prediction_distance(prediction[:1], reference[:1]) == pytest.approx(math.log(4 / 3) / 2, rel=1e-6)
    assert prediction_distance(prediction, reference) == pytest.approx(math.log(4 / 3) / 4, rel=1e-6)
    assert prediction_distance(prediction + 5, reference - 3) == pytest.approx(math.log(4 / 3) / 4, rel=1e-5)
    other_way = prediction_distance(reference[:1], prediction[:1])
    assert other_way == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)


def test_maps_are_compared_in_shares_of_each_channels_variance() -> None:
    reference = torch.randn(3, 4, 8, 8)
    spread = reference.transpose(0, 1).flatten(1).std(1)[:, None, None]
    errors = torch.tensor([0.1, 0.2, 0.0, 0.4])[:, None, None]
    expected = float(errors.square().mean())
    assert prediction_distance(reference + errors * spread, reference) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_maps_have_no_unit(scale: float) -> None:
    reference = torch.randn(3, 4, 8, 8)
    prediction = reference + 0.3 * torch.randn_like(reference)
    units = torch.tensor([1.0, scale, 1.0, scale])[:, None, None]
    expected = prediction_distance(prediction, reference)
    assert 0.05 < expected < 0.2
    assert prediction_distance(prediction * units, reference * units) == pytest.approx(expected, rel=1e-3)


def test_nested_outputs_count_by_channel() -> None:
    maps, vector = torch.randn(4, 3, 5, 5), torch.randn(4, 1)
    reference = {"maps": [maps, torch.arange(4)], "more": (vector, "name", None)}
    spread = maps.transpose(0, 1).flatten(1).std(1)[:, None, None]
    sizes = torch.arange(4) + 1  # integers, as sizes of images, are not compared
    prediction = {"maps": [maps + spread, sizes], "more": (vector, "other", None)}
    assert prediction_distance(prediction, reference) == pytest.approx(3 / 4, rel=1e-4)  # 1 in three of four channels


def test_single_numbers_are_no_logits() -> None:
    """A softmax over one class would find all regressions equal."""
    reference = torch.tensor([[1.0], [2.0], [3.0]])
    assert prediction_distance(reference + 1, reference) == pytest.approx(1)


def test_vectors_of_one_image_are_compared_together() -> None:
    reference = [torch.tensor([[1.0, 2.0, 3.0]])]
    assert prediction_distance([reference[0] + 2], reference) == pytest.approx(4)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4)),
        ([torch.zeros(2, 3, 1)], [torch.zeros(2, 3, 1), torch.zeros(2, 3, 1)]),
        ({"boxes": torch.zeros(7, 4)}, {"boxes": torch.zeros(9, 4)}),
        (torch.arange(3), torch.arange(3)),
        ([], []),
    ],
)
def test_what_cannot_be_compared_is_told(prediction: Any, reference: Any) -> None:
    with pytest.raises(ValueError, match=r"predictions cannot be compared, their float tensors have shapes"):
        prediction_distance(prediction, reference)
