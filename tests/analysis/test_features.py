"""Features gathered over batches are the head's, symbols those of the payloads, and reports hold every record."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from splitlearn.analysis import cut_features
from splitlearn.codecs import Huffman
from splitlearn.models import SplitModel
from splitlearn.quantizers import MinMax
from tests.networks import carra, datta, digits, halves


def batches(count: int, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(digits(count), size), torch.split(torch.arange(count), size), strict=True))


@pytest.mark.parametrize("make", [carra, datta])
def test_features_and_symbols_are_those_of_the_model(make: Callable[[], SplitModel]) -> None:
    model = make()
    found = cut_features(model, batches(8), 5)
    images = digits(5)
    for mine, theirs in zip(found.crossing, model.features(images), strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(found.symbols, model.symbols(images), strict=True):
        assert mine.shape == theirs.shape
        assert (mine != theirs).float().mean() < 1e-3  # other batch sizes round otherwise
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.floats == found.crossing
    assert not any(t.requires_grad for t in found.crossing)


def test_fewer_images_than_asked_for() -> None:
    assert len(cut_features(carra(), batches(4), 100).crossing[0]) == 4


@pytest.mark.parametrize("labels", [None, torch.zeros(3, 4), [{"boxes": 1}] * 3])
def test_other_labels_are_none(labels: object) -> None:
    assert cut_features(carra(), [(digits(3), labels, "more")], 3).labels is None


def test_an_image_that_is_not_finite_is_named() -> None:
    images = digits(5)
    images[4, 0, 0, 0] = float("nan")
    parts = [(images[:3], torch.zeros(3)), (images[3:], torch.zeros(2))]
    with pytest.raises(ValueError, match="features of image 4 hold NaN or infinity: check weights"):
        cut_features(carra(), parts, 5)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="there are no images to analyse: the test set is empty"):
        cut_features(carra(), [], 3)


def test_every_tensor_that_crosses() -> None:
    model = SplitModel(halves("layer2.0.relu1"), [MinMax(3), MinMax(5)], Huffman()).eval()
    found = cut_features(model, batches(3), 3)
    assert [tuple(t.shape) for t in found.floats] == [(3, 32, 16, 16), (3, 16, 32, 32)]
    assert [int(s.max()) for s in found.symbols] == [7, 31]
