"""A bank of rates: payloads that name theirs for nothing, budgets that hold, and one network."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.codecs import BudgetError, CodecError, Huffman, RunLength
from splitlearn.codecs.payload_coder import untag_message
from splitlearn.models import (
    DepthwiseSeparable,
    Normalize,
    OperatingPoint,
    Split,
    SplitModel,
    VariableRateModel,
    faster_rcnn,
    resnet8,
    split,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import MinMax, Quantizer, Step
from splitlearn.tasks import ClassificationTask
from tests.networks import SHAPE, digits

WEIGHTS = Path(__file__).parents[3] / "checkpoints/resnet8_digits.safetensors"

UNITS = ((2, 4, 0.5), (8, 2, 0.125), (8, 2, 0.125), (8, 2, 0.1), (16, 1, 0.05))  # channels, stride, step
SCORES = (0.5, 0.7, 0.7, 0.65, 0.9)  # the second and the third differ in their weights alone
IMAGES = 12


def cut(at: str) -> Split:
    return split(resnet8(weights=WEIGHTS), at, SHAPE)


def models_of(net: Split) -> list[SplitModel]:
    torch.manual_seed(0)
    made = []
    for channels, stride, step in UNITS:
        unit = partial(DepthwiseSeparable, channels=channels, stride=stride)
        made.append(SplitModel(net, Step(step), Huffman(), unit).eval())
    return made


@cache
def bank() -> VariableRateModel:
    models = models_of(cut("layer2"))
    return VariableRateModel.of(models, [OperatingPoint(s, 100.0 + i) for i, s in enumerate(SCORES)]).eval()


def member(rate: int) -> SplitModel:
    return bank().at_rate(rate)


@cache
def payloads() -> list[list[bytes]]:
    """Of every rate, those of the same images."""
    return [bank().compress(digits(IMAGES), rate=rate) for rate in range(len(UNITS))]


@pytest.mark.parametrize("rate", range(len(UNITS)))
def test_a_payload_is_the_bottlenecks_own_but_for_three_bits(rate: int) -> None:
    model, images = member(rate), digits(IMAGES)
    own = model.compress(images)
    assert (payloads()[rate] == own) == (rate == 0)
    assert [len(p) for p in payloads()[rate]] == [len(p) for p in own]
    for payload, plain in zip(payloads()[rate], own, strict=True):
        assert payload[0] ^ plain[0] == rate
        assert payload[1:5] + payload[9:] == plain[1:5] + plain[9:]  # between them stands the checksum
        assert untag_message(payload, 1) == (rate, plain)
    assert torch.equal(bank().decompress(payloads()[rate]), model.decompress(own))
    assert bank().rates_of(payloads()[rate]) == [rate] * IMAGES


def test_a_single_rate_needs_no_bits() -> None:
    model = member(3)
    single = VariableRateModel.of([model], [OperatingPoint(0.5, 100.0)])
    assert single.compress(digits(4)) == model.compress(digits(4))
    assert torch.equal(single.decompress(single.compress(digits(4))), model(digits(4)))
    with pytest.raises(CodecError, match="names rate 1 of 1"):
        single.decompress(payloads()[1][:1])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, IMAGES - 1), st.integers(0, len(UNITS) - 1)), min_size=1, max_size=20))
def test_a_batch_of_any_rates_is_decoded_in_its_order(chosen: list[tuple[int, int]]) -> None:
    found = bank().features_hat([payloads()[rate][image] for image, rate in chosen])[0]
    assert len(found) == len(chosen)
    for restored, (image, rate) in zip(found, chosen, strict=True):
        torch.testing.assert_close(restored, restorations()[rate][image], rtol=1e-4, atol=1e-5)


@cache
def restorations() -> list[Tensor]:
    return [member(rate).features_hat(member(rate).compress(digits(IMAGES)))[0] for rate in range(len(UNITS))]


def test_predictions_of_a_mixed_batch_are_those_of_its_rates() -> None:
    images = digits(IMAGES)
    mixed = [payloads()[i % len(UNITS)][i] for i in range(IMAGES)]
    found = bank().decompress(mixed)
    for i in range(IMAGES):
        expected = member(i % len(UNITS))(images[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-5)
    assert len({tuple(row.tolist()) for row in found}) == IMAGES


@pytest.mark.parametrize("rate", range(len(UNITS)))
def test_a_damaged_rate_is_found(rate: int) -> None:
    """The second and the third rate have one quantizer, one code and one shape: only the checksum tells them apart."""
    payload = payloads()[rate][0]
    for change in range(1, 8):
        damaged = bytes([payload[0] ^ change]) + payload[1:]
        with pytest.raises(CodecError):
            bank().decompress([damaged])
        if rate ^ change >= len(UNITS):
            with pytest.raises(CodecError, match=f"names rate {rate ^ change} of 5"):
                bank().rates_of([damaged])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(UNITS) - 1), st.integers(0, IMAGES - 1), st.data())
def test_every_damage_is_found(rate: int, image: int, data: st.DataObject) -> None:
    payload = payloads()[rate][image]
    position, change = data.draw(st.integers(0, len(payload) - 1)), data.draw(st.integers(1, 255))
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    flipped = payload[:position] + bytes([payload[position] ^ change]) + payload[position + 1 :]
    for damaged in (cut, flipped, payload + b"\0"):
        with pytest.raises(CodecError):
            bank().decompress([payloads()[0][0], damaged])


def test_a_plain_model_refuses_payloads_that_name_a_rate() -> None:
    with pytest.raises(CodecError, match="tagged"):
        member(2).decompress(payloads()[2])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 1200))
def test_a_budget_holds_and_takes_the_best_that_fits(budget: int) -> None:
    """Brute force: of the rates whose payload fits, the one of the highest score; of equal scores, the first."""
    by_score = sorted(range(len(UNITS)), key=lambda rate: -SCORES[rate])
    sizes = [[len(p) for p in each] for each in payloads()]
    misfits = [i for i in range(IMAGES) if min(each[i] for each in sizes) > budget]
    if misfits:
        needed = max(min(each[i] for each in sizes) for i in misfits)
        with pytest.raises(BudgetError, match=rf"takes {needed} bytes even .* budget of {budget}: allow {needed}, or"):
            bank().compress(features(), budget=budget)
        return
    found = bank().compress(features(), budget=budget)
    assert max(map(len, found)) <= budget
    expected = [next(rate for rate in by_score if sizes[rate][i] <= budget) for i in range(IMAGES)]
    assert bank().rates_of(found) == expected
    assert len(bank().decompress(found)) == IMAGES


def test_a_budget_mixes_rates_and_names_the_image_that_does_not_fit() -> None:
    sizes = [[len(p) for p in each] for each in payloads()]
    least = [min(each[i] for each in sizes) for i in range(IMAGES)]
    found = bank().compress(digits(IMAGES), budget=sorted(sizes[4])[IMAGES // 2])
    assert len(set(bank().rates_of(found))) > 1
    worst = max(range(IMAGES), key=lambda i: least[i])
    with pytest.raises(BudgetError, match=rf"image {worst} of the {IMAGES} in this batch takes {least[worst]} bytes"):
        bank().compress(digits(IMAGES), budget=least[worst] - 1)
    assert max(map(len, bank().compress(digits(IMAGES), budget=least[worst]))) <= least[worst]


@cache
def features() -> Features:
    return Features(member(0).features(digits(IMAGES)), 32 * 32)


def test_the_head_runs_once_whatever_is_tried() -> None:
    calls: list[int] = []
    head = member(0).net.head
    largest = max(min(len(each[i]) for each in payloads()) for i in range(IMAGES))
    handle = head.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    try:
        bank().compress(digits(IMAGES), budget=largest)
        assert calls == [IMAGES]
        given_before = features()
        calls.clear()
        assert bank().compress(given_before, rate=1) == payloads()[1]
        assert not calls
    finally:
        handle.remove()


def test_the_models_own_rate_or_budget_is_the_default() -> None:
    models, points = [member(i) for i in range(len(UNITS))], bank().points
    images = digits(4)
    assert bank().compress(images) == payloads()[4][:4]  # the best
    assert torch.equal(bank()(images), member(4)(images))
    second = VariableRateModel.of(models, points, rate=1)
    assert second.compress(images) == payloads()[1][:4]
    assert second.compress(images, rate=0) == payloads()[0][:4]
    assert torch.equal(second(images), member(1)(images))
    bounded = VariableRateModel.of(models, points, budget=300)
    assert bounded.compress(images) == bank().compress(images, budget=300)
    assert bounded.compress(images, rate=3) == payloads()[3][:4]


def test_a_switch_costs_the_bottleneck_alone() -> None:
    net = cut("layer2")
    models = models_of(net)
    symbols = [s.numpy() for s in models[1].symbols(digits(8))[0]]
    models[1] = models[1].coded_by(models[1].coder.quantizers, [Huffman.fit(symbols, 256)])
    model = VariableRateModel.of(models, bank().points)
    tables = sum(t.nbytes for t in models[1].coder.codecs[0].tables().values())
    weights = [sum(p.nbytes for p in each.coder.bottlenecks.parameters()) for each in models]
    assert model.switch_bytes == [weights[0], weights[1] + tables, *weights[2:]]
    assert model.backbone_bytes == sum(t.nbytes for t in resnet8().state_dict().values())
    held = {id(t): t.nbytes for t in [*model.parameters(), *model.buffers()]}  # each once, however often it is named
    assert sum(held.values()) + tables == model.backbone_bytes + sum(model.switch_bytes)
    assert [VariableRateModel.of(models, bank().points, rate=r).table_bytes for r in (0, 1)] == [0, tables]
    assert VariableRateModel.of(models, bank().points, budget=500).table_bytes == tables


def test_every_tensor_that_crosses_is_in_a_payload() -> None:
    torch.manual_seed(0)
    net = split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE)
    quantizers: list[Quantizer] = [MinMax(2), MinMax(4), MinMax(6)]
    models = [SplitModel(net, quantizer, RunLength()).eval() for quantizer in quantizers]
    model = VariableRateModel.of(models, [OperatingPoint(i, i) for i in range(3)])
    images = digits(3)
    sent = [model.compress(images, rate=rate) for rate in range(3)]
    for rate in range(3):
        assert [len(p) for p in sent[rate]] == [len(p) for p in models[rate].compress(images)]
        assert torch.equal(model.decompress(sent[rate]), models[rate](images))
    mixed = model.decompress([sent[2 - i][i] for i in range(3)])
    for i in range(3):
        torch.testing.assert_close(mixed[i], models[2 - i](images)[i], rtol=1e-4, atol=1e-5)
    for position in range(30):
        damaged = sent[1][0][:position] + bytes([sent[1][0][position] ^ 2]) + sent[1][0][position + 1 :]
        with pytest.raises(CodecError):
            model.decompress([damaged])


@pytest.mark.slow
def test_detectors_have_rates_too() -> None:
    detector = faster_rcnn("resnet18", 3, min_size=64, max_size=96, pyramid=16, box_width=32)
    net = split(detector, "backbone.body.layer1", (3, 48, 64))
    models = [SplitModel(net, MinMax(bits), RunLength()).eval() for bits in (2, 8)]
    model, images = VariableRateModel.of(models, [OperatingPoint(i, i) for i in range(2)]), torch.rand(2, 3, 48, 64)
    for found, expected in zip(
        model.decompress(model.compress(images)), models[1].decompress(models[1].compress(images)), strict=True
    ):
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    mixed = [model.compress(images, rate=0)[0], model.compress(images, rate=1)[1]]
    assert torch.equal(model.features_hat(mixed)[1], model.features_hat(model.compress(images))[1])  # image sizes


def test_payloads_of_several_sizes_are_refused() -> None:
    net = cut("layer1")
    models = [SplitModel(net, MinMax(bits), RunLength()).eval() for bits in (2, 4)]
    model = VariableRateModel.of(models, [OperatingPoint(i, i) for i in range(2)])
    sent = [model.compress(torch.rand(1, 3, size, 32), rate=i)[0] for i, size in enumerate((32, 48))]
    with pytest.raises(ValueError, match="different sizes"):
        model.decompress(sent)


def test_what_makes_no_bank_is_told() -> None:
    models, points = [member(i) for i in range(len(UNITS))], list(bank().points)
    for few, many in (([], []), ([models[0]] * 9, [points[0]] * 9), (models, points[1:])):
        with pytest.raises(ValueError, match="a bank holds 1 to 8 rates and a point for each"):
            VariableRateModel.of(few, many)
    others = [models_of(cut("layer2"))[0]]
    others.append(SplitModel(member(0).net, MinMax(4), RunLength(), normalize=Normalize([0.5] * 3, [0.2] * 3)))
    for other in others:
        with pytest.raises(ValueError, match=r"share one (network and one cut: make each|normalization: give)"):
            VariableRateModel.of([models[0], other], points[:2])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"rate": 5}, r"has rates 0…4, got 5"),
        ({"rate": -1}, r"has rates 0…4, got -1"),
        ({"budget": 0}, "must be 1 byte or more, got 0"),
        ({"rate": 0, "budget": 100}, "take a rate or a budget, not both"),
    ],
)
def test_choices_that_cannot_be_are_told(choice: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bank().compress(digits(1), **choice)
    with pytest.raises(ValueError, match=message):
        VariableRateModel.of([member(i) for i in range(len(UNITS))], bank().points, **choice)


def test_nothing_to_decompress_is_told() -> None:
    with pytest.raises(ValueError, match="no payloads"):
        bank().decompress([])


def test_normalization_may_be_shared() -> None:
    normalize = Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    twin = Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    net = member(0).net
    models = [SplitModel(net, MinMax(bits), RunLength(), normalize=n).eval() for bits, n in ((2, normalize), (4, twin))]
    model = VariableRateModel.of(models, [OperatingPoint(i, i) for i in range(2)])
    assert torch.equal(model.decompress(model.compress(digits(2), rate=0)), models[0](digits(2)))


def test_nothing_trains_once_its_bottlenecks_are_frozen() -> None:
    models = models_of(cut("layer2"))
    for each in models:
        each.coder.bottlenecks.requires_grad_(False)
    task = ClassificationTask(VariableRateModel.of(models, bank().points), num_classes=10)
    with pytest.raises(ValueError, match="run `test`"):
        task.configure_optimizers()
    assert isinstance(task.model, nn.Module)
