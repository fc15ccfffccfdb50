"""Distances between outputs: their values, their least value, their gradients, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitlearn.losses import DetectionDivergence, LogitDivergence, OutputDistance, VarianceScaledError


def detection(scores: Tensor, boxes: Tensor) -> Any:
    return torch.zeros(1), {"scores": scores, "boxes": boxes, "feats": []}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some(seed: int = 0, images: int = 2) -> Any:
    return detection(noise(images, 5, 7, seed=seed), noise(images, 64, 7, seed=seed + 1))


def test_divergence_of_logits_is_that_of_their_probabilities() -> None:
    mine, theirs = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    found = LogitDivergence()(mine.log() + 3, theirs.log() - 1)  # constants change no probabilities
    assert float(found) == pytest.approx(0.25 * math.log(0.5) + 0.5 * math.log(2), rel=1e-5)


def test_divergence_is_the_mean_over_images_and_pixels() -> None:
    one, other = noise(1, 4), noise(1, 4, seed=1)
    single = LogitDivergence()(one, other)
    maps = [t[:, :, None, None].expand(3, 4, 5, 6) for t in (one, other)]
    assert torch.allclose(LogitDivergence()(*maps), single)


def test_gradients_hardly_depend_on_a_high_temperature() -> None:
    sizes = []
    for temperature in (10.0, 100.0):
        logits = noise(3, 10).requires_grad_()
        LogitDivergence(temperature)(logits, noise(3, 10, seed=1)).backward()
        assert logits.grad is not None
        sizes.append(float(logits.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


@pytest.mark.parametrize(
    ("distance", "output"),
    [(LogitDivergence(2.0), noise(2, 5)), (DetectionDivergence(), some()), (DetectionDivergence(2, 3), some())],
)
def test_equal_outputs_have_the_least_distance(distance: OutputDistance, output: Any) -> None:
    assert float(distance(output, output)) == pytest.approx(0, abs=1e-6)


def test_every_change_of_a_detection_is_a_distance() -> None:
    distance, wanted = DetectionDivergence(), some()
    scores, boxes = wanted[1]["scores"], wanted[1]["boxes"]
    for changed in (detection(scores + 0.1 * noise(2, 5, 7, seed=9), boxes), detection(scores, boxes.roll(1, 1))):
        assert float(distance(changed, wanted)) > 1e-4


def test_boxes_count_where_the_teacher_sees_something() -> None:
    scores = torch.full((1, 5, 2), -9.0)
    scores[0, 3, 0] = 3.0  # an object at the first position alone
    boxes = noise(1, 64, 2)
    wanted = detection(scores, boxes)
    found = []
    for position in (0, 1):
        moved = boxes.clone()
        moved[:, :, position] = moved[:, :, position].roll(4)
        found.append(float(DetectionDivergence()(detection(scores, moved), wanted)))
    assert found[0] > 100 * found[1]
    assert float(DetectionDivergence(box_weight=0)(detection(scores, boxes.flip(2)), wanted)) == 0


def test_detections_are_averaged_over_images() -> None:
    distance = DetectionDivergence()
    outputs = [(t[1]["scores"], t[1]["boxes"]) for t in (some(0), some(5))]
    each = [distance(*(detection(scores[[i]], boxes[[i]]) for scores, boxes in outputs)) for i in range(2)]
    assert torch.allclose(distance(some(0), some(5)), torch.stack(each).mean())


def test_maps_of_earlier_ultralytics_are_the_same_positions() -> None:
    maps, others = ([noise(2, 69, side, side, seed=seed + side) for side in (4, 2)] for seed in (0, 20))
    flat = []
    for each in (maps, others):
        positions = torch.cat([t.flatten(2) for t in each], 2)
        flat.append(detection(positions[:, 64:], positions[:, :64]))
    distance = DetectionDivergence()
    assert torch.equal(distance((torch.zeros(1), maps), (torch.zeros(1), others)), distance(*flat))


def test_a_network_learns_what_its_teacher_says() -> None:
    torch.manual_seed(0)
    images, network, teacher = noise(64, 6), nn.Linear(6, 4), nn.Linear(6, 4)
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(200):
        loss = LogitDivergence()(network(images), teacher(images).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3
    assert torch.equal(network(images).argmax(1), teacher(images).argmax(1))


@pytest.mark.parametrize(
    ("distance", "output", "said"),
    [
        (LogitDivergence(), some(), "output is tuple: use DetectionDivergence"),
        (LogitDivergence(), noise(4, 1), r"output is \(4, 1\)"),
        (DetectionDivergence(), noise(2, 5), "the network's is Tensor: use LogitDivergence"),
        (DetectionDivergence(), (torch.zeros(1), {"scores": noise(1, 5, 7)}), "reads the output of ultralytics"),
        (DetectionDivergence(), detection(noise(1, 5, 7), noise(1, 4, 7)), "has 4 numbers for each"),
    ],
)
def test_other_outputs_are_refused(distance: OutputDistance, output: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        distance(output, output)


def test_outputs_of_different_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gives logits \(2, 5\) and its teacher \(2, 6\)"):
        LogitDivergence()(noise(2, 5), noise(2, 6))
    with pytest.raises(ValueError, match="must have the same classes"):
        DetectionDivergence()(some(), detection(noise(2, 4, 7), noise(2, 64, 7)))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_impossible_temperatures(wrong: float) -> None:
    for kind in (LogitDivergence, DetectionDivergence):
        with pytest.raises(ValueError, match="temperature must be positive"):
            kind(temperature=wrong)
    with pytest.raises(ValueError, match="box_weight must not be negative"):
        DetectionDivergence(-1)


def test_error_of_the_mean_is_one_at_any_scale_and_offset() -> None:
    wanted = noise(8, 3, 4, 4)
    for layer in (wanted, 100 * wanted + 1000, wanted / 1000 - 5):
        mean = layer.mean().expand_as(layer)
        assert float(VarianceScaledError()(mean, layer)) == pytest.approx(1, rel=1e-3)
        assert float(VarianceScaledError()(layer, layer)) == 0
