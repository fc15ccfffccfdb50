"""EntropyRate against the formula written out, and what training asks of it."""

import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitlearn.codecs import Huffman
from splitlearn.losses import EntropyRate
from splitlearn.losses import entropy as room
from splitlearn.losses.entropy import SoftHistogramEntropy
from splitlearn.models import SplitModel
from splitlearn.quantizers import Affine
from splitlearn.tasks import ClassificationTask
from tests.networks import digits, halves


def dense(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Beysens et al. 2023, eqs. 3 to 5 as they stand there: every value against every node."""
    x = (values.double().flatten() - low) / (high - low)
    x = x[(x >= 0) & (x <= 1)]
    nodes = torch.linspace(0, 1, bins, dtype=torch.float64)
    weights = (1 - (x[:, None] - nodes).abs() * (bins - 1)).clamp(min=0)
    h = weights.mean(0)
    return -(h * h.clamp(min=1e-12).log2()).sum() / math.log2(bins)


def entropy(values: Tensor, low: float, high: float, bins: int = 256) -> Tensor:
    limits = (torch.tensor(limit, dtype=torch.float64, device=values.device) for limit in (low, high))
    rate: Tensor = SoftHistogramEntropy.apply(values, *limits, bins)
    return rate


def sample(kind: str) -> Tensor:
    noise = torch.randn(4, 8, 16, 16)
    return {"normal": noise, "relu": noise.relu(), "far from zero": noise + 50, "wide": 1e4 * noise}[kind]


@pytest.mark.parametrize("kind", ["normal", "relu", "far from zero", "wide"])
@pytest.mark.parametrize("bins", [256, 7, 2])
def test_value_and_gradient_are_those_of_the_dense_formula(kind: str, bins: int) -> None:
    values = sample(kind).requires_grad_()
    low, high = values.mean().item() - 2 * values.std().item(), values.mean().item() + 2 * values.std().item()
    ours, theirs = entropy(values, low, high, bins), dense(values, low, high, bins)
    assert abs(ours.item() - theirs.item()) < 1e-5
    (mine,), (reference,) = torch.autograd.grad(ours, values), torch.autograd.grad(theirs, values)
    assert (mine - reference).abs().max() <= 1e-5 * reference.abs().max()
    assert reference.abs().max() > 0


@pytest.mark.parametrize("compiled", [True, False])
def test_gradcheck(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:  # what runs on a GPU
        monkeypatch.setattr(room, "count_compiled", room.count_in_torch)
        monkeypatch.setattr(room, "look_up_compiled", room.look_up)
    values = torch.rand(2, 3, 5, dtype=torch.float64) * 1.2 - 0.1  # some beyond the limits
    assert torch.autograd.gradcheck(lambda x: entropy(x, 0.0, 1.0, 12), values.requires_grad_(), eps=1e-7)


@pytest.mark.parametrize("kind", ["normal", "relu"])
def test_both_ways_of_counting_agree(kind: str) -> None:
    low, scale = torch.tensor([-1.5, 70], dtype=torch.float64)
    how = sample(kind).flatten(), low, scale, 255
    for mine, other in zip(room.count_compiled(*how), room.count_in_torch(*how), strict=True):
        assert mine.dtype == other.dtype
        assert torch.allclose(mine, other, rtol=1e-12)


def test_extremes_of_the_scale() -> None:
    reached = 1 / (6 * math.sqrt(1 / 12))  # share of μ ± 3σ that an even distribution fills
    assert EntropyRate()(torch.rand(1 << 18)).item() == pytest.approx(math.log2(256 * reached) / 8, abs=1e-3)
    even = torch.linspace(0, 1, 256).repeat(10)
    assert entropy(even, 0.0, 1.0).item() == pytest.approx(1, abs=1e-4)
    two = torch.tensor([0.0, 1.0]).repeat(500)
    assert entropy(two, 0.0, 1.0).item() == pytest.approx(1 / 8)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (7,), (16, 16, 32, 32)])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, -0.1234, 3.3, 1e-20, 1e6])
def test_constant_latent_costs_nothing_and_breaks_nothing(training: bool, shape: tuple[int, ...], value: float) -> None:
    latent = torch.full(shape, value, requires_grad=True)
    rate = EntropyRate().train(training)(latent)
    rate.backward()
    assert rate.item() == 0
    assert latent.grad is not None
    assert latent.grad.count_nonzero() == 0


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_latent_that_has_become_constant(value: float) -> None:
    rate, latent = EntropyRate(momentum=0.5), torch.full((2, 5), value, requires_grad=True)
    rate(torch.randn(100))
    for _ in range(1500):  # until the running variance is 0
        found = rate(latent)
    (gradient,) = torch.autograd.grad(found, latent)
    assert found.item() == 0
    assert gradient.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_in_other_types_still_run(dtype: torch.dtype) -> None:
    rate = EntropyRate().to(dtype)
    values = torch.rand(1000)
    for _ in range(3):
        found = rate(values)
    assert found.item() == pytest.approx(EntropyRate()(values).item(), abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_and_leaves_the_statistics_alone(bad: float) -> None:
    rate = EntropyRate()
    rate(torch.randn(100))
    before = list(map(torch.clone, rate.buffers()))
    assert math.isnan(rate(torch.tensor([0.0, bad, 1.0])).item())
    assert math.isnan(rate.eval()(torch.tensor([0.0, bad, 1.0])).item())
    assert all(map(torch.equal, before, rate.buffers()))


def test_no_values_at_all() -> None:
    rate = EntropyRate()
    assert math.isnan(rate(torch.zeros(0, 3)).item())  # as the mean of nothing
    assert rate.ranges[0].batches == 0


def test_outliers_get_no_gradient_and_do_not_count() -> None:
    inner = torch.randn(5000)
    latent = torch.cat([inner, torch.tensor([40.0, -40.0])]).requires_grad_()
    rate = EntropyRate(momentum=1.0)
    rate(inner)
    rate.eval()
    (gradient,) = torch.autograd.grad(rate(latent), latent)
    assert gradient[-2:].tolist() == [0, 0]
    assert rate(latent).item() == pytest.approx(rate(inner).item(), abs=1e-7)


def test_running_statistics_follow_the_batches_and_survive_a_checkpoint(tmp_path: Path) -> None:
    rate, batches = EntropyRate(momentum=0.25), [torch.randn(500) + shift for shift in (0, 4, 8)]
    mean, variance = batches[0].mean().double(), batches[0].var(correction=0).double()
    for batch in batches:
        rate(batch)
    for batch in batches[1:]:
        mean, variance = mean.lerp(batch.mean().double(), 0.25), variance.lerp(batch.var(correction=0).double(), 0.25)
    found = torch.stack([rate.get_buffer(f"ranges.0.{name}") for name in ("mean", "variance")])
    assert torch.allclose(torch.stack([mean, variance]), found, rtol=1e-6)
    torch.save(rate.state_dict(), tmp_path / "state.pt")
    again = EntropyRate(momentum=0.25)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.eval()(batches[1]) == rate.eval()(batches[1])
    assert again.train()(batches[2]) == rate.train()(batches[2])


def test_one_byte_a_value_is_kept() -> None:
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    latent = torch.randn(8, 16, 32, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        rate = EntropyRate()(latent)
    assert sum(t.nbytes for t in kept) <= latent.numel() + 2048
    rate.backward()


@pytest.mark.parametrize("form", ["channels-last", "transposed", "a view", "half", "scalar"])
def test_layout_and_type_do_not_matter(form: str) -> None:
    plain = torch.randn(3, 4, 6, 5)
    latent = {
        "channels-last": plain.to(memory_format=torch.channels_last),
        "transposed": plain.transpose(0, 3),
        "a view": plain[:, ::2, 1:, ::3],
        "half": plain.bfloat16(),
        "scalar": plain[0, 0, 0, 0],
    }[form].requires_grad_()
    same = latent.detach().float().contiguous().requires_grad_()
    rate = EntropyRate()
    rate(plain)
    rates = rate.eval()(latent), rate(same)
    assert torch.isclose(*rates)
    gradients = torch.autograd.grad(rates[0], latent)[0], torch.autograd.grad(rates[1], same)[0]
    assert gradients[0].dtype == latent.dtype
    assert torch.equal(gradients[0], gradients[1].to(latent.dtype))


def test_several_tensors_have_statistics_of_their_own() -> None:
    rate, latents = EntropyRate(), [torch.randn(200), 100 + 4 * torch.rand(300)]
    rate.begin([(1,), (1,)], [])
    total = rate.total(latents)
    assert torch.isclose(total, EntropyRate()(latents[0]) + EntropyRate()(latents[1]))
    assert [round(rate.get_buffer(f"ranges.{i}.mean").item()) for i in range(2)] == [0, 102]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 256), st.integers(1, 400), st.sampled_from([1e-3, 1.0, 1e6]), st.integers(0, 2**31))
def test_rate_lies_between_0_and_1(bins: int, count: int, scale: float, seed: int) -> None:
    values = scale * torch.from_numpy(np.random.default_rng(seed).standard_cauchy(count)).float()
    assert -1e-6 <= EntropyRate(bins).eval()(values).item() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "what"), [({"bins": 1}, "bins"), ({"bins": 257}, "bins"), ({"momentum": 0}, "momentum")]
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} must lie"):
        EntropyRate(**arguments)


def test_gradient_descent_lowers_the_entropy_of_symbols() -> None:
    latent = torch.randn(4, 8, 8, 8).requires_grad_()
    rate, optimizer = EntropyRate(), torch.optim.Adam([latent], lr=0.02)
    rates = []
    for _ in range(60):
        optimizer.zero_grad()
        value = rate(latent)
        value.backward()
        optimizer.step()
        rates.append(value.item())
    assert rates[-1] < 0.85 * rates[0]


def test_rate_of_a_bottleneck_in_a_task() -> None:
    """At a cut that two tensors cross; begin is told so by the task."""
    net = halves("layer2.1.bn2")
    model = SplitModel(net, Affine(0.05, 128), Huffman())
    rate = EntropyRate()
    task = ClassificationTask(model, 10, rate, 0.5)
    latents = task.model.run(digits(4)).latents
    assert len(latents) == len(rate.ranges) == 2
    assert 0 < rate.total(latents).item() < 2
    assert "rate_loss.ranges.1.variance" in task.state_dict()


def _count_a_share(rank: int, address: str, values: Tensor, queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    rate = EntropyRate()
    rate(values[rank::2] if rank else values[: len(values) // 2])
    queue.put([rate.get_buffer(f"ranges.0.{name}").item() for name in ("mean", "variance")])
    torch.distributed.destroy_process_group()


def test_processes_count_their_batches_together(tmp_path: Path) -> None:
    values = torch.randn(1000) + torch.linspace(0, 9, 1000)
    both = torch.cat([values[:500], values[1::2]])
    processes = multiprocessing.get_context("fork")
    queue = processes.Queue()
    started = [
        processes.Process(target=_count_a_share, args=(rank, f"file://{tmp_path}/meeting", values, queue))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    found = [queue.get(timeout=60) for _ in started]
    for process in started:
        process.join()
    assert found[0] == found[1]
    assert found[0] == pytest.approx([both.mean().item(), both.var(correction=0).item()], rel=1e-5)
