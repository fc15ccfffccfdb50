"""Latencies of modules and coders: what is timed, in which order, and that the network is left as it was."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from splitlearn.analysis.latency import _modules, time_coders, time_modules
from splitlearn.codecs import Huffman, RunLength
from splitlearn.models import (
    Normalize,
    NormalizedSeparable,
    OperatingPoint,
    SplitModel,
    VariableRateModel,
    resnet8,
    split,
)
from splitlearn.quantizers import MinMax, Step
from tests.networks import SHAPE, digits


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.latencies.PAUSE_S", 0.0)


class Clock:
    """A clock that only `Takes` moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


class Takes(nn.Module):
    """Takes some seconds of a clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, images: Tensor) -> Tensor:
        self.clock.seconds += self.seconds
        return images[:, :1]


class Twice(nn.Module):
    """Runs a module twice, around another one, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.between, self.never = nn.ReLU(), nn.Identity(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.again(self.between(self.again(images)))
        return found


def test_modules_are_timed_in_the_order_in_which_they_are_done() -> None:
    network = resnet8().train()
    names = [name for name, _ in network.named_modules() if name and name.count(".") < 2]
    modules, _ = time_modules(network, digits(1), names, 3)
    found = {each.name: each for each in modules}
    assert list(found)[:3] == ["conv1", "bn1", "relu"]
    assert list(found)[-1] == "linear"
    assert list(found).index("layer1.0") < list(found).index("layer1") < list(found).index("layer2.0")
    assert found["layer2"].output_shape == (32, 16, 16)
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_head_and_tail_of_each_module_add_up_to_the_whole(clock: Clock) -> None:
    network = nn.Sequential(Takes(clock, 0.001), nn.Sequential(Takes(clock, 0.02)), Takes(clock, 0.004))
    modules, whole = time_modules(network, digits(1), ["0", "1", "1.0", "2"], 2)
    assert [each.name for each in modules] == ["0", "1.0", "1", "2"]
    assert [each.own.p50_ms for each in modules] == pytest.approx([1, 20, 20, 4])
    assert [each.until.p50_ms for each in modules] == pytest.approx([1, 21, 21, 25])
    assert [each.after.p50_ms for each in modules] == pytest.approx([24, 4, 4, 0])
    assert whole.p50_ms == pytest.approx(25)


def test_a_module_that_runs_again_is_done_at_its_last_run_and_one_that_never_runs_is_left_out() -> None:
    modules, _ = time_modules(Twice(), digits(1), ["again", "between", "never"], 2)
    assert [each.name for each in modules] == ["between", "again"]


def test_hooks_cost_nothing() -> None:
    seconds = [("", False, 0.0), ("a", False, 0.001), ("a", True, 0.005), ("b", False, 0.006), ("b", True, 0.010)]
    stamps = [*seconds, ("", True, 0.011)]
    first, second = _modules([stamps, stamps], 0.5, {"a": (1,), "b": (2,)})
    assert (first.until.p50_ms, first.own.p50_ms) == pytest.approx((4.5, 3.5))
    assert (second.until.p50_ms, second.own.p50_ms) == pytest.approx((8.5, 3.5))
    assert (first.after.p50_ms, second.after.p50_ms) == pytest.approx((4.5, 0.5))


def test_failing_networks_keep_no_hooks() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        time_modules(network, digits(1), ["0", "1"], 2)
    assert not any(module._forward_hooks for module in network.modules())


def test_coders_of_all_rates_are_timed() -> None:
    net = split(resnet8(), "layer2", SHAPE)
    normalize = Normalize([0.5] * 3, [0.25] * 3)
    plain = SplitModel(net, MinMax(4), RunLength(), normalize=normalize).eval()
    small = SplitModel(net, Step(0.2), Huffman(), partial(NormalizedSeparable, channels=4, stride=2), normalize).eval()
    bank = VariableRateModel.of([small, plain], [OperatingPoint(0.8, 60.0), OperatingPoint(0.95, 2000.0)])
    found = time_coders(bank, digits(3), 4, "ab" * 32)
    assert [(each.rate, each.score, each.at, each.model) for each in found] == [
        (0, 0.8, "layer2", "ab" * 32),
        (1, 0.95, "layer2", "ab" * 32),
    ]
    for each, model in zip(found, (small, plain), strict=True):
        assert each.bytes_per_image == pytest.approx(sum(map(len, model.compress(digits(3)))) / 3)
        assert each.encoder is not None
    assert time_coders(plain, digits(2), 2, "ab" * 32)[0].score is None
    assert not torch.is_inference_mode_enabled()
