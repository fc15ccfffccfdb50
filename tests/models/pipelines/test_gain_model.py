"""One bottleneck for many rates: gains, the density that follows them, and the files that hold a rate in few bytes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitlearn.codecs import BudgetError, DensityRANS, Huffman
from splitlearn.codecs.payload_coder import untag_message
from splitlearn.deploy import ExportError, export_bank, export_bottleneck, export_gains, load_bank
from splitlearn.losses import FactorizedRate
from splitlearn.models import (
    GainModel,
    NormalizedSeparable,
    OperatingPoint,
    PixelEncoder,
    PixelModel,
    SplitModel,
    resnet8,
    split,
)
from splitlearn.quantizers import MinMax, Step
from tests.networks import SHAPE, digits

WEIGHTS = Path(__file__).parents[3] / "checkpoints/resnet8_digits.safetensors"
RATE_WEIGHTS = [4.0, 1.0, 0.25]
UNIT = partial(NormalizedSeparable, channels=6, stride=2)


def untrained(step: float = 0.5) -> GainModel:
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    return GainModel(SplitModel(net, Step(step, 64), Huffman(), UNIT), RATE_WEIGHTS).eval()


def with_density(model: GainModel, steps: int) -> FactorizedRate:
    """Train model and density for a few steps, and give the model's codec the density."""
    rate = FactorizedRate()
    rate.begin(model.coder.latent_shapes, model.coder.quantizers)
    trained = [p for p in [*model.parameters(), *rate.parameters()] if p.requires_grad]
    optimizer, images = torch.optim.Adam(trained, 0.02), digits(32)
    model.train()
    for _ in range(steps):
        weight = 0.05 * model.draw_rate()
        output = model.run(images)
        distance = (output.features_hat[0] - output.features[0]).square().mean()
        loss: Any = distance + weight * rate.total(output.latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    rate.eval()
    [codec] = model.coder.codecs
    assert isinstance(codec, DensityRANS)
    model.coder.codecs = (codec.learnt(rate.tables(), rate.density()),)
    return rate


@cache
def model() -> GainModel:
    made = untrained()
    with_density(made, 25)
    return made


def mean_size(payloads: list[bytes]) -> float:
    return float(np.mean([len(payload) for payload in payloads]))


def test_gains_start_at_the_step_that_each_weight_asks_for() -> None:
    gains = untrained().quantizer.gains
    assert torch.equal(gains, torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 6))  # steps grow as roots of weights


def test_all_gains_train_and_only_those_of_the_drawn_rate_at_once() -> None:
    own = untrained().train()
    drawn = {own.draw_rate(): own.quantizer.rate for _ in range(60)}
    assert drawn == {weight: rate for rate, weight in enumerate(RATE_WEIGHTS)}
    own.quantizer.rate = 1
    loss: Any = own.run(digits(4)).features_hat[0].square().sum()
    loss.backward()
    gradient = own.quantizer.gains.grad
    assert gradient is not None
    assert bool((gradient[1] != 0).all())
    assert not gradient[[0, 2]].any()


def test_validation_is_at_the_last_rate_or_the_models_own() -> None:
    own = untrained()
    with torch.no_grad():
        own.quantizer.gains.mul_(1.2345678)  # which half precision rounds
    own.train().quantizer.rate = 1  # as drawn
    own.eval()
    assert torch.equal(own(digits(2)), own.decompress(own.compress(digits(2))))
    own.rate = 0
    assert own.reset_rate() == RATE_WEIGHTS[0]
    assert own.quantizer.rate == 0


@pytest.mark.parametrize("rate", range(3))
def test_payloads_give_the_differentiable_pass_at_their_rate(rate: int) -> None:
    images = digits(5)
    payloads, single = model().compress(images, rate=rate), model().bank().at_rate(rate)
    assert [untag_message(payload, 1)[0] for payload in payloads] == [rate] * 5
    output = single.run(images)
    [restored] = single.coder.quantized(output.latents)
    assert torch.equal(single.coder.latents_hat([untag_message(p, 1)[1] for p in payloads])[0], restored)
    assert torch.equal(model().decompress(payloads), output.prediction)


def test_higher_rates_take_more_bytes_and_restore_more_and_rates_between_lie_between() -> None:
    images = digits(32)
    bank = model().bank([0, 0.5, 1, 1.5, 2])
    sizes = [mean_size(bank.compress(images, rate=rate)) for rate in range(5)]
    assert sizes == sorted(sizes)
    wanted = bank.run(images).features[0]
    errors = [(bank.at_rate(r).run(images).features_hat[0] - wanted).square().mean().item() for r in (0, 4)]
    assert errors[1] < errors[0]
    assert sizes[::2] == [mean_size(model().compress(images, rate=rate)) for rate in range(3)]


def test_the_density_predicts_the_size_at_every_rate() -> None:
    own = untrained()
    rate, images = with_density(own, 25), digits(64)
    for number in range(3):
        own.quantizer.rate = number
        [latent] = own.run(images).latents
        estimate = rate(latent).item() * latent[0].numel() / 8
        overhead = 9 + 3 + 8 * 4  # container, and states of the code
        assert estimate < mean_size(own.compress(images, rate=number)) < estimate * 1.05 + overhead


def test_a_budget_takes_the_highest_rate_within_it() -> None:
    images = digits(6)
    every = [model().compress(images, rate=rate) for rate in range(3)]
    budget = max(map(len, every[1]))
    found = model().compress(images, budget=budget)
    best = [next(r for r in (2, 1, 0) if len(every[r][i]) <= budget) for i in range(6)]
    assert found == [every[rate][i] for i, rate in enumerate(best)]
    with pytest.raises(BudgetError, match="allow"):
        model().compress(images, budget=1)


def test_a_file_holds_bottleneck_and_density_once_and_a_rate_in_few_bytes(tmp_path: Path) -> None:
    images = digits(6)
    metrics = [{"test/accuracy": 0.1 * n, "test/bytes_per_image": 10.0 * n} for n in range(5)]
    three = export_gains(model(), tmp_path / "three.safetensors", metrics[:3])
    five = export_gains(model(), tmp_path / "five.safetensors", metrics, [0, 0.5, 1, 1.5, 2])
    assert (five.stat().st_size - three.stat().st_size) / 2 < 500
    loaded = load_bank(five, resnet8(weights=WEIGHTS))
    for rate, position in enumerate([0, 0.5, 1, 1.5, 2]):
        single = model().bank([position]).at_rate(0)
        assert loaded.at_rate(rate).compress(images) == single.compress(images)
    assert len({id(coder.bottlenecks) for coder in loaded.rates}) == 1
    assert loaded.points[3] == OperatingPoint(metrics[3]["test/accuracy"], metrics[3]["test/bytes_per_image"])
    assert loaded.switch_bytes == [(2 + 4) * 6] * 5  # gains of the code and of the quantizer


def test_rates_with_bottlenecks_of_their_own_share_nothing_in_a_file(tmp_path: Path) -> None:
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        own = SplitModel(split(resnet8(weights=WEIGHTS), "layer2", SHAPE), Step(), Huffman(), UNIT).eval()
        metrics = {"test/accuracy": 0.5, "test/bytes_per_image": 10.0 + seed}
        files.append(export_bottleneck(own, tmp_path / f"{seed}.safetensors", metrics))
    loaded = load_bank(export_bank(files, tmp_path / "bank.safetensors"), resnet8(weights=WEIGHTS))
    assert len({id(coder.bottlenecks) for coder in loaded.rates}) == 2


def test_metrics_of_each_rate_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 3 rates and metrics of 1: give those of each rate"):
        export_gains(model(), tmp_path / "bank.safetensors", [{}])
    with pytest.raises(ExportError, match="has no test/accuracy and test/bytes_per_image"):
        export_gains(model(), tmp_path / "bank.safetensors", [{}] * 3)


def test_a_state_dict_brings_gains_and_density() -> None:
    other = untrained()
    other.load_state_dict(model().state_dict())
    images = digits(4)
    assert [other.compress(images, rate=r) for r in range(3)] == [model().compress(images, rate=r) for r in range(3)]


def test_pixels_have_many_rates_too() -> None:
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    small = partial(PixelEncoder, channels=4, width=8, stride=8, patch=4, decoder_width=8, decoder_depth=1)
    own = GainModel(PixelModel(net, Step(), Huffman(), small), RATE_WEIGHTS).eval()
    with_density(own, 3)
    images = digits(3)
    sizes = [mean_size(own.compress(images, rate=rate)) for rate in range(3)]
    assert sizes == sorted(sizes)
    assert own.run(images).features[0].shape == own.run(images).features_hat[0].shape == (3, 32, 16, 16)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.0], [float(n) for n in range(9, 0, -1)]])
def test_weights_are_few_positive_and_descending(weights: list[float]) -> None:
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    with pytest.raises(ValueError, match="rate_weights are 2 to 8 positive numbers in descending order"):
        GainModel(SplitModel(net, Step(), Huffman(), UNIT), weights)


def test_only_even_steps_have_gains() -> None:
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    with pytest.raises(ValueError, match="quantized by Step; here 1 cross, quantized by MinMax"):
        GainModel(SplitModel(net, MinMax(4), Huffman(), UNIT), RATE_WEIGHTS)


def test_a_rate_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rates lie in 0…2, got 2\.5"):
        model().bank([0, 2.5])
    with pytest.raises(ValueError, match="not both"):
        model().compress(digits(1), rate=1, budget=10)
