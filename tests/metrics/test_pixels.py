"""Scores of segmentations against sums made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitlearn.metrics import pixel_scores
from splitlearn.outputs import IGNORED

CLASSES = 4


def by_hand(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Mean intersection over union of the classes that occur, and share of right pixels."""
    counted = truth != IGNORED
    found, truth = found[counted], truth[counted]
    if not len(truth):
        return math.nan, math.nan
    shares = []
    for label in range(CLASSES):
        either = int(((found == label) | (truth == label)).sum())
        if either:
            shares.append(int(((found == label) & (truth == label)).sum()) / either)
    return sum(shares) / len(shares), float((found == truth).float().mean())


def drawn(seed: int, images: int, ignored: float) -> tuple[Tensor, Tensor]:
    """Predictions that are right for half of the pixels, and masks; some classes may be absent."""
    generator = torch.Generator().manual_seed(seed)
    present = int(torch.randint(1, CLASSES + 1, (), generator=generator))
    truth = torch.randint(present, (images, 5, 6), generator=generator).to(torch.uint8)
    other = torch.randint(present, truth.shape, generator=generator).to(torch.uint8)
    found = torch.where(torch.rand(truth.shape, generator=generator) < 0.5, truth, other)
    truth[torch.rand(truth.shape, generator=generator) < ignored] = IGNORED
    return found, truth


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_scores_are_those_of_all_pixels_together(seed: int, images: int, ignored: float, as_logits: bool) -> None:
    found, truth = drawn(seed, images, ignored)
    scores = pixel_scores(CLASSES)
    for n in range(images):  # batches of one
        part = found[n : n + 1]
        given = torch.nn.functional.one_hot(part.long(), CLASSES).movedim(-1, 1).float() if as_logits else part
        scores.update(given, truth[n : n + 1])
    values = scores.compute()
    miou, accuracy = by_hand(found, truth)
    assert float(values["miou"]) == pytest.approx(miou, abs=1e-6, nan_ok=True)
    assert float(values["pixel_accuracy"]) == pytest.approx(accuracy, abs=1e-6, nan_ok=True)


def test_the_mean_is_not_that_of_single_images() -> None:
    """Class 1 is rare: missed in the first image, whole in the second."""
    truth = torch.zeros(2, 4, 4, dtype=torch.uint8)
    truth[0, 0, 0] = 1
    truth[1, :2] = 1
    found = truth.clone()
    found[0, 0, 0] = 0
    scores = pixel_scores(2)
    scores.update(found, truth)
    together = (23 / 24 + 8 / 9) / 2
    single = [by_hand(found[n], truth[n])[0] for n in range(2)]
    assert float(scores.compute()["miou"]) == pytest.approx(together)
    assert abs(sum(single) / 2 - together) > 0.1


def test_one_matrix_serves_both_scores() -> None:
    scores = pixel_scores(3)
    mask = torch.tensor([[0, 1, 2, IGNORED]])
    scores.update(mask.clamp(max=2), mask)
    scores.update(mask.clamp(max=2), mask)
    first, second = (metric.confmat for metric in scores.values(copy_state=False))
    assert isinstance(first, Tensor)
    assert first is second
    assert torch.equal(first, 2 * torch.eye(3, dtype=torch.long))
    scores.reset()
    scores.update(mask.clamp(max=2), mask)
    assert {name: float(value) for name, value in scores.compute().items()} == {"miou": 1, "pixel_accuracy": 1}
