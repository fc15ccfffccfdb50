"""Gradients are those of the softmax up to a factor; relevant coefficients are the ones that decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from splitlearn.analysis import class_gradients, most_relevant, relevance
from splitlearn.analysis.relevance import MEASURES, grad_cam_map, saliency, weighted_activation


class Tail(nn.Module):
    """Mean of each channel into a linear layer, after a ReLU in place."""

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 5)
        self.scale = scale

    def forward(self, features: Tensor, *rest: Tensor) -> Tensor:
        logits: Tensor = self.linear(nn.functional.relu(features, inplace=True).mean((2, 3))) * self.scale
        return logits


def test_gradients_are_those_of_the_softmax_up_to_a_factor() -> None:
    tail, features = Tail(3).requires_grad_(False), torch.rand(4, 3, 5, 5) + 0.1
    before = features.clone()
    (gradient,) = class_gradients(tail, (features,), batch_size=3)
    assert torch.equal(features, before)
    assert not features.requires_grad
    leaf = features.clone().requires_grad_()
    scores = tail(leaf.clone()).softmax(1).max(1).values
    (expected,) = torch.autograd.grad(scores.sum(), leaf)
    factor = (scores * (1 - scores)).detach().view(-1, 1, 1, 1)
    torch.testing.assert_close(gradient * factor, expected)


def test_a_confident_prediction_has_a_gradient_all_the_same() -> None:
    tail, features = Tail(3, scale=1e4), torch.rand(2, 3, 4, 4)
    assert set(tail(features.clone()).softmax(1).max(1).values.tolist()) == {1.0}
    (gradient,) = class_gradients(tail, (features,))
    assert (gradient.abs() > 1).any()


def test_tensors_of_integers_cross_without_a_gradient_and_unused_ones_have_none() -> None:
    crossing = torch.rand(2, 3, 4, 4), torch.ones(2, 2, dtype=torch.int64), torch.rand(2, 7, 2, 2)
    used, unused = class_gradients(Tail(3), crossing)
    assert used.shape == (2, 3, 4, 4)
    assert unused.shape == (2, 7, 2, 2)
    assert not unused.any()


def test_measures_by_hand() -> None:
    features = torch.tensor([[[[1.0, 0.0]], [[2.0, 4.0]]]])  # two channels of 1 × 2
    gradient = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.0]]]])  # means 2 and −½
    assert weighted_activation(features, gradient).tolist() == [[[[2, 0]], [[-1, -2]]]]
    assert grad_cam_map(features, gradient).tolist() == [[[[1, 0]], [[1, 0]]]]
    assert saliency(features, gradient).tolist() == [[[[3, 1]], [[1, 0]]]]


def test_the_share_is_rounded_up_and_ties_go_to_the_first() -> None:
    scores = torch.tensor([[5.0, 1, 1, 1, 1], [0, 0, 0, 0, 9]])
    assert most_relevant(scores, 0.5).int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 1]]
    assert most_relevant(scores, 1.0).all()
    with pytest.raises(ValueError, match="share must lie above 0"):
        most_relevant(scores, 0.0)


def test_relevant_values_beside_all() -> None:
    torch.manual_seed(0)
    features, gradient = torch.randn(3, 4, 10, 10).relu(), torch.ones(3, 4, 10, 10)
    found = relevance(features, gradient, 0.1)
    assert [d.name for d in found.relevant] == list(MEASURES)
    assert found.everything.count == features.numel()
    assert {d.count for d in found.relevant} == {3 * 40}
    by_activation = found.relevant[0]
    assert by_activation.zeros == 0  # with equal weights the largest are the most relevant
    largest = features.flatten(1).sort(1).values[:, -40:]
    assert by_activation.minimum == largest.min()
    by_position = found.relevant[1]
    assert 0.1 < by_position.zeros < found.everything.zeros


def test_what_has_no_relevance() -> None:
    with pytest.raises(ValueError, match=r"needs \(C, H, W\)"):
        relevance(torch.rand(2, 8), torch.rand(2, 8))
    with pytest.raises(ValueError, match="needs a classifier"):
        class_gradients(nn.Identity(), (torch.rand(2, 3, 4, 4),))
    with pytest.raises(ValueError, match="finite logits of two classes or more"):
        class_gradients(nn.Flatten(), (torch.rand(2, 1, 1, 1),))
    with pytest.raises(ValueError, match="finite logits"):
        class_gradients(nn.Flatten(), (torch.full((2, 3, 1, 1), float("nan")),))
