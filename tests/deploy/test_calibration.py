"""Calibration: limits, levels and tables from images alone, chosen by predictions; and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.codecs import CodecError, ContextRANS, Huffman, RunLength, TruncatedUnary, pack_latents, unpack_latents
from splitlearn.codecs.container import join_parts
from splitlearn.deploy import (
    Calibration,
    CalibrationSettings,
    calibrate,
    export_bottleneck,
    load_bottleneck,
    prediction_distance,
)
from splitlearn.models import CoderModel, ImageFile, SplitModel, TiledFeatures, split
from splitlearn.quantizers import LaplaceLimits, LatentStatistics, LeastError, Limits, MinMax, ReluLimits
from tests.networks import SHAPE, datta, digits, halves, network

HUFFMAN = CalibrationSettings(codec=Huffman())


def plain(at: str = "layer3", seed: int = 0) -> SplitModel:
    """No bottleneck; quantizer and codec are there to be replaced."""
    return SplitModel(halves(at, seed), MinMax(8), RunLength()).eval()


def two_tensors() -> SplitModel:
    """A cut inside a residual block: the shortcut's tensor crosses too."""
    torch.manual_seed(0)
    return SplitModel(split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE), MinMax(4), RunLength()).eval()


def calibrated(model: SplitModel | None = None, count: int = 8, **settings: Any) -> Calibration:
    return calibrate(model or plain(), digits(count), replace(HUFFMAN, **settings))


def squared_error(model: CoderModel, images: Tensor) -> float:
    latents = model.coder.latents(model.features(images))
    return sum(float((q(t) - t).square().mean()) for q, t in zip(model.coder.quantizers, latents, strict=True))


@pytest.mark.parametrize("entropy_weight", [None, 0.05])
@pytest.mark.parametrize("per_channel", [False, True])
def test_payloads_hold_what_the_forward_pass_computes(per_channel: bool, entropy_weight: float | None) -> None:
    found = calibrated(per_channel=per_channel, entropy_weight=entropy_weight, levels=3)
    model, images = found.model, digits(12)
    (quantizer,) = model.coder.quantizers
    assert quantizer.get_buffer("values").shape == (64 if per_channel else 1, 3)
    assert quantizer.levels == 3
    assert model.coder.codecs[0].tables()
    assert not model.training
    assert found.images == 8
    payloads = model.compress(images)
    assert torch.equal(model.decompress(payloads), model(images))
    assert not torch.equal(model(images), plain()(images))


def test_limits_of_each_channel_err_less() -> None:
    errors = [squared_error(calibrated(per_channel=each).model, digits(8)) for each in (True, False)]
    assert errors[0] < errors[1]


def test_limits_are_those_of_the_rule() -> None:
    model = plain()
    (latents,) = model.coder.latents(model.features(digits(8)))
    low, high = LeastError().of(LatentStatistics.of(latents), 4)
    values = calibrated(model, per_channel=False).model.coder.quantizers[0].get_buffer("values")[0]
    torch.testing.assert_close(values, torch.linspace(float(low), float(high), 4))


def test_vectors_have_one_pair_of_limits() -> None:
    found = calibrated(plain("linear"), per_channel=True)
    assert found.model.coder.quantizers[0].get_buffer("values").shape == (1, 4)


def test_entropy_constrained_levels_cost_fewer_bits_and_keep_the_limits() -> None:
    even, designed = (calibrated(entropy_weight=weight, per_channel=False) for weight in (None, 0.2))
    assert designed.chosen.bits_per_element < 0.95 * even.chosen.bits_per_element
    assert squared_error(designed.model, digits(8)) > squared_error(even.model, digits(8))
    values = [found.model.coder.quantizers[0].get_buffer("values")[0] for found in (even, designed)]
    assert torch.equal(values[0][[0, -1]], values[1][[0, -1]])
    assert not torch.equal(values[0], values[1])


def test_a_trial_is_what_it_says() -> None:
    """Distance and size are means over all images; 40 are more than one batch."""
    found = calibrated(count=40, stretches=[0.8], rate_weight=0.25)
    (trial,) = found.trials
    model, images = found.model, digits(40)
    assert trial is found.chosen
    assert trial.stretch == 0.8
    assert trial.distance == pytest.approx(prediction_distance(model(images), network()(images)), rel=1e-4)
    (symbols,) = model.symbols(images)
    sizes = [len(model.coder.codecs[0].encode(image.numpy(), 4)) for image in symbols]
    assert trial.bytes_per_image == pytest.approx(sum(sizes) / 40)
    assert trial.bits_per_element == pytest.approx(8 * sum(sizes) / symbols.numel())
    assert trial.cost == pytest.approx(trial.distance + 0.25 * trial.bits_per_element)


def test_the_least_cost_is_chosen() -> None:
    stretches = [2.0, 0.3, 1.0, 0.6]
    found = calibrated(stretches=stretches)
    assert [trial.stretch for trial in found.trials] == stretches
    assert [trial.cost for trial in found.trials] == [trial.distance for trial in found.trials]
    assert found.chosen.cost == min(trial.cost for trial in found.trials)
    alone = calibrated(stretches=[found.chosen.stretch])
    assert alone.model.compress(digits(2)) == found.model.compress(digits(2))
    assert len({trial.distance for trial in found.trials}) == 4


def test_a_weight_on_bits_moves_the_choice() -> None:
    near, cheap = (calibrated(stretches=[0.5, 1.0, 4.0], rate_weight=weight) for weight in (0.0, 1e6))
    assert cheap.chosen.bits_per_element == min(trial.bits_per_element for trial in cheap.trials)
    assert cheap.chosen.bits_per_element < near.chosen.bits_per_element
    assert cheap.chosen.stretch != near.chosen.stretch
    assert cheap.chosen.distance > near.chosen.distance


def test_stretched_limits_stay_within_the_latents() -> None:
    model = plain()
    (latents,) = model.coder.latents(model.features(digits(8)))
    values = calibrated(model, per_channel=False, stretches=[100.0]).model.coder.quantizers[0].get_buffer("values")
    assert (float(values.min()), float(values.max())) == (float(latents.min()), float(latents.max()))


def test_every_tensor_has_a_quantizer_of_its_own() -> None:
    model = two_tensors()
    found = calibrated(model, codec=ContextRANS()).model
    first, second = found.coder.quantizers
    assert not torch.equal(first.get_buffer("values"), second.get_buffer("values"))
    assert found.coder.codecs[0].tables()
    assert found.coder.codecs[0].identity != found.coder.codecs[1].identity
    images = digits(4)
    assert torch.equal(found.decompress(found.compress(images)), found(images))
    latents = model.coder.latents(model.features(digits(8)))
    for quantizer, latent in zip(found.coder.quantizers, latents, strict=True):
        assert latent.amin() <= quantizer.get_buffer("values").amin()
        assert quantizer.get_buffer("values").amax() <= latent.amax()


def test_the_given_model_stays_as_it_was() -> None:
    model = plain()
    payloads = model.compress(digits(2))
    found = calibrated(model).model
    assert model.compress(digits(2)) == payloads
    assert type(model.coder.codecs[0]) is RunLength
    assert found.net is model.net


def test_tables_are_counted() -> None:
    for codec in (RunLength(), Huffman()):
        model = calibrated(codec=codec).model
        levels = 64 * 4 * 4 + 64 * 3 * 4  # values and thresholds, float32
        assert model.table_bytes == levels + sum(table.nbytes for table in model.coder.codecs[0].tables().values())
    assert calibrated(codec=Huffman()).model.table_bytes > calibrated(codec=RunLength()).model.table_bytes
    assert plain().table_bytes == 0


def test_payloads_of_another_calibration_are_refused() -> None:
    """Levels differ, shapes, alphabet and codec do not."""
    writer, reader = (calibrated(stretches=[stretch], codec=RunLength()).model for stretch in (1.0, 0.7))
    payloads = writer.compress(digits(2))
    with pytest.raises(CodecError, match="foreign codec or quantizer"):
        reader.decompress(payloads)
    twin = calibrated(codec=RunLength()).model
    assert torch.equal(twin.decompress(payloads), writer(digits(2)))


@pytest.mark.parametrize("codec", [Huffman(), ContextRANS(), TruncatedUnary()], ids=repr)
def test_a_device_without_torch_writes_the_same_payloads(codec: Any) -> None:
    model = calibrated(codec=codec).model
    images = digits(3)
    (latents,) = model.coder.latents(model.features(images))
    (grid,) = [quantizer.grid for quantizer in model.coder.quantizers]
    assert grid is not None
    containers = pack_latents(latents.numpy(), grid, model.coder.codecs[0], model.coder.context)
    assert [join_parts([container]) for container in containers] == model.compress(images)
    restored = unpack_latents(containers, grid, model.coder.codecs[0], model.coder.context)
    np.testing.assert_array_equal(np.stack(restored), model.coder.latents_hat(model.compress(images))[0].numpy())


def test_a_trained_bottleneck_is_calibrated_at_its_latents() -> None:
    model = datta()
    found = calibrated(model).model
    assert found.coder.bottlenecks is model.coder.bottlenecks
    assert found.coder.quantizers[0].get_buffer("values").shape == (8, 4)
    images = digits(3)
    assert torch.equal(found.decompress(found.compress(images)), found(images))


def test_what_is_calibrated_can_be_trained_and_loaded_into() -> None:
    found = calibrated(datta()).model.train()
    nn.functional.cross_entropy(found(digits(2)), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in found.coder.bottlenecks.parameters()]
    assert gradients
    assert all(gradient is not None for gradient in gradients)
    other = calibrated(datta(), stretches=[0.5]).model
    found.load_state_dict(other.state_dict())
    assert found.eval().compress(digits(2)) == other.compress(digits(2))


@pytest.mark.parametrize("entropy_weight", [None, 0.1])
@pytest.mark.parametrize("limits", [LeastError(), LaplaceLimits(1.0)], ids=["LeastError", "LaplaceLimits"])
def test_a_dead_channel_is_exact(limits: Limits, entropy_weight: float | None) -> None:
    dead = network()
    with torch.no_grad():
        dead.get_parameter("bn1.weight")[5] = 0
        dead.get_parameter("bn1.bias")[5] = 0.3
    model = SplitModel(split(dead, "bn1", SHAPE), MinMax(8), RunLength()).eval()
    found = calibrated(model, entropy_weight=entropy_weight, limits=limits).model
    (latent,) = found.coder.latents(found.features(digits(8)))
    (latent_hat,) = found.coder.latents_hat(found.compress(digits(8)))
    assert (latent[:, 5] == latent[0, 5, 0, 0]).all()
    assert torch.equal(latent_hat[:, 5], latent[:, 5])
    assert not torch.equal(latent_hat, latent)


def spoiled(name: str, value: float) -> SplitModel:
    """A model with one number of its network replaced; a network that gives NaN could not be cut."""
    model = plain()
    with torch.no_grad():
        parameter = next(tensor for path, tensor in model.net.named_parameters() if path.endswith(name))
        parameter.view(-1)[0] = value
    return model


def test_weights_that_are_not_finite_are_told() -> None:
    with pytest.raises(ValueError, match="latents hold NaN or infinity: check weights and normalization"):
        calibrated(spoiled("conv1.weight", torch.nan))
    with pytest.raises(ValueError, match="predictions hold NaN or infinity: check its weights"):
        calibrated(spoiled("linear.bias", torch.inf))


def test_constant_features_are_told() -> None:
    constant = network()
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.zero_()
    model = SplitModel(split(constant, "layer3", SHAPE), MinMax(8), RunLength()).eval()
    with pytest.raises(ValueError, match=r"one repeated value.*: check the weights, or cut at another module"):
        calibrated(model)


def test_one_constant_tensor_of_two_is_exact() -> None:
    model = two_tensors()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if n.endswith("layer1.0.conv1.weight")).zero_()
    constant = [not bool(t.any()) for t in model.coder.latents(model.features(digits(2)))]
    assert sorted(constant) == [False, True]
    found = calibrated(model, codec=ContextRANS()).model
    latents = found.coder.latents_hat(found.compress(digits(2)))
    assert [not bool(t.any()) for t in latents] == constant


def test_images_and_rules_that_calibrate_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no images to calibrate with: give at least one"):
        calibrated(count=0)
    for rule in (ReluLimits(), LaplaceLimits()):
        with pytest.raises(ValueError, match=r"after ReLU, and the smallest of these is .*: use LeastError"):
            calibrated(plain("layer3.0.conv1"), limits=rule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": 1}, "levels must lie in 2…256, got 1"),
        ({"levels": 257}, "levels must lie in 2…256, got 257"),
        ({"stretches": []}, "stretches must be positive numbers, one or more"),
        ({"stretches": [1.0, 0.0]}, "stretches must be positive numbers, one or more"),
        ({"stretches": [float("nan")]}, "stretches must be positive numbers, one or more"),
        ({"rate_weight": -1.0}, "rate_weight and entropy_weight must be numbers and not negative, got -1.0 and None"),
        ({"entropy_weight": float("nan")}, "rate_weight and entropy_weight must be numbers and not negative"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CalibrationSettings(**settings)


def test_features_that_were_sent_as_pictures_are_calibrated_too(tmp_path: Path) -> None:
    """The calibrated model is that of the same network without pictures, and its export loads as such."""
    tiled = TiledFeatures(halves("layer3"), MinMax(8), ImageFile("PNG")).eval()
    model = calibrate(tiled, digits(8), CalibrationSettings()).model
    expected = calibrate(plain(), digits(8), CalibrationSettings()).model
    payloads = model.compress(digits(3))
    assert payloads == expected.compress(digits(3))
    path = export_bottleneck(model, tmp_path / "c.safetensors")
    assert load_bottleneck(path, network()).compress(digits(3)) == payloads
