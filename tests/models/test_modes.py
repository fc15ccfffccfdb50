"""What is sent does not depend on the mode that training has left a model in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from splitlearn.codecs import Huffman
from splitlearn.models import (
    CompressionModel,
    EarlyExitModel,
    InputModel,
    NormalizedSeparable,
    OperatingPoint,
    SplitModel,
    UnfrozenSplitModel,
    VariableRateModel,
)
from splitlearn.models.modes import evaluating
from splitlearn.quantizers import MinMax, Step
from tests.networks import digits, halves, network

unit = partial(NormalizedSeparable, channels=4, stride=2)


def bottleneck(kind: type[SplitModel] = SplitModel) -> SplitModel:
    return kind(halves("layer2"), Step(0.125), Huffman(), unit)


def exits() -> CompressionModel:
    return EarlyExitModel(halves("layer2"), MinMax(8), Huffman(), ["layer1"], threshold=0.2)


def bank() -> CompressionModel:
    return VariableRateModel.of([bottleneck()], [OperatingPoint(0.5, 100)])


@pytest.mark.parametrize(
    "make",
    [bottleneck, partial(bottleneck, UnfrozenSplitModel), exits, bank, lambda: InputModel(network())],
    ids=["bottleneck", "unfrozen", "exits", "bank", "input"],
)
def test_payloads_and_predictions_are_those_of_eval_mode(make: Callable[[], CompressionModel]) -> None:
    torch.manual_seed(0)
    model, images = make().train(), digits(6)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    payloads = model.compress(images)
    predictions = model.decompress(payloads)
    model.check_lossless(images)
    assert [module.training for module in model.modules()] == modes
    assert any(modes)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if isinstance(value, torch.Tensor))
    model.eval()
    assert model.compress(images) == payloads
    torch.testing.assert_close(model.decompress(payloads), predictions, rtol=0, atol=0, equal_nan=True)


def test_modes_are_restored_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Identity(), nn.Linear(2, 2)).train()
    net[1].eval()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), evaluating(net):
        net(torch.zeros(2, 3))
    assert [module.training for module in net.modules()] == [True, True, False, True]
