"""Scores over all thresholds are what the model itself does at each."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from splitlearn.analysis import ExitScores, score_exits, static_codecs
from splitlearn.analysis.exit_scores import CODECS
from splitlearn.codecs import CodecError, Raw
from splitlearn.models import EarlyExitModel
from tests.models.pipelines.test_early_exit import early, images

LABELS = torch.arange(24) % 10


@cache
def model() -> EarlyExitModel:
    return early(["relu", "layer1"])


@cache
def scores() -> ExitScores:
    codecs = static_codecs(model(), [images()[:8], images()[8:]])
    return score_exits(model(), [(images()[:10], LABELS[:10]), (images()[10:], LABELS[10:])], codecs)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_each_point_is_what_the_model_does(threshold: float) -> None:
    point, again = scores().at(threshold), model()
    again.threshold = threshold
    codecs = static_codecs(model(), [images()[:8], images()[8:]])
    decisions = again.decide(images())
    assert point.exit_share == pytest.approx(1 - decisions.sent.float().mean().item())
    assert point.accuracy == pytest.approx((again(images()).argmax(1) == LABELS).float().mean().item())
    for name, several in codecs.items():
        payloads = again.coded_by(again.coder.quantizers, several).compress(images())
        assert point.bytes_per_image[name] == pytest.approx(sum(map(len, payloads)) / 24)
    assert point.bytes_per_image.keys() == CODECS.keys()


def test_accuracies_and_entropy_are_those_of_all_images() -> None:
    output = model().eval().run(images())
    hits = [(logits.argmax(1) == LABELS).float().mean().item() for logits in (*output.exits, output.prediction)]
    assert scores().accuracies == pytest.approx(hits)
    symbols = model().symbols(images())[0]
    shares = torch.bincount(symbols.flatten().int()).double() / symbols.numel()
    assert scores().entropy_bits == pytest.approx(
        float(-(shares[shares > 0] * shares[shares > 0].log2()).sum()), rel=1e-5
    )
    assert scores().values == 16 * 32 * 32
    assert scores().sizes["raw"].tolist() == [16 * 32 * 32 + 9 + 1 + 1 + 1 + 8] * 24


def made(confidences: list[float], right: list[list[bool]], sizes: list[float]) -> ExitScores:
    """One early exit, two classes, all labels 0."""
    logits = torch.stack([torch.tensor([[float(ok), 0.5] for ok in row]) for row in right])
    return ExitScores(
        logits,
        torch.tensor(confidences)[:, None],
        torch.zeros(len(right), dtype=torch.long),
        {"raw": torch.tensor(sizes, dtype=torch.float64)},
        1.0,
        1,
    )


def test_cheapest_point_that_is_good_enough() -> None:
    found = made([0.9, 0.8, 0.6, 0.5], [[True, True], [False, True], [True, True], [False, True]], [10, 20, 30, 40])
    assert found.at(0).accuracy == 0.5
    assert found.at(1).bytes_per_image["raw"] == 25
    point = found.cheapest(0.75, "raw")
    assert point is not None
    assert (point.accuracy, point.bytes_per_image["raw"]) == (0.75, 10.0)  # the surest three leave
    assert found.cheapest(1.01, "raw") is None
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        found.at(1.5)


@pytest.mark.parametrize(("right", "collapsed"), [(True, False), (False, True)])
def test_a_network_that_only_guesses_is_marked(right: bool, collapsed: bool) -> None:
    assert made([0.5], [[True, right]], [1]).collapsed == collapsed


def test_calibration_of_an_exit() -> None:
    found = scores()
    temperature = found.temperature(0)
    assert temperature > 1  # random weights know nothing
    assert found.calibration(0, temperature) < found.calibration(0)


def test_a_codec_that_loses_is_found() -> None:
    class Lossy(Raw):
        def _decode(self, payload: Tensor, shape: tuple[int, ...], levels: int) -> Tensor:  # type: ignore[override]
            return super()._decode(payload, shape, levels) ^ 1  # type: ignore[arg-type,return-value]

    with pytest.raises((RuntimeError, CodecError)):
        score_exits(model(), [(images(), LABELS)], {"lossy": [Lossy()]})


def test_without_codecs_only_accuracies_are_scored() -> None:
    found = score_exits(model(), [(images(), LABELS)], {})
    assert found.at(0.5).bytes_per_image == {}
    assert not math.isnan(found.accuracies[0])
