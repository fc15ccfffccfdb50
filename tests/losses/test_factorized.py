"""The learnt density against what it must learn, and what it refuses."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from splitlearn.codecs import RANS
from splitlearn.losses import FactorizedRate
from splitlearn.quantizers import MinMax, Step


def latents(count: int, seed: int = 0) -> Tensor:
    """Three channels: narrow, wide, and one of two heaps."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randn(count, 3, 8, 8, generator=random) * torch.tensor([0.4, 6.0, 1.0]).view(3, 1, 1)
    y[:, 2] += 8 * torch.randint(0, 2, (count, 8, 8), generator=random)
    return y


@cache
def learnt(step: float) -> FactorizedRate:
    torch.manual_seed(0)
    rate, y = FactorizedRate(), latents(100)
    rate.begin([(3, 8, 8)], [Step(step)])
    optimizer = torch.optim.Adam(rate.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        rate(y).backward()
        optimizer.step()
    return rate.eval()


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.5, 2.0])
def test_it_learns_what_rans_sends(step: float) -> None:
    rate, quantizer = learnt(step), Step(step)
    seen, fresh = (quantizer.quantize(latents(count, seed))[0].numpy() for count, seed in ((400, 1), (100, 2)))
    codec = RANS(per_channel=True).fitted(list(seen), quantizer.levels)
    elements = 3 * 8 * 8
    sent = 8 * sum(len(codec.encode(image, quantizer.levels)) for image in fresh) / 100 / elements
    states = 8 * 8 * 3 / elements  # up to eight states of three bytes an image
    estimate = rate(latents(100, 2)).item()
    assert 0.98 * estimate <= sent <= 1.03 * estimate + states


@pytest.mark.parametrize("levels", [7, 16, 256])
def test_its_tables_are_its_probabilities_in_the_order_of_symbols(levels: int) -> None:
    rate, quantizer = FactorizedRate(), Step(0.5, levels)
    torch.manual_seed(0)
    rate.begin([(3, 8, 8)], [quantizer])
    torch.nn.init.normal_(rate.means, std=3)
    torch.nn.init.normal_(rate.log_scales)
    tables = rate.tables() / (1 << 30)
    np.testing.assert_allclose(tables.sum(1), 1, atol=1e-6)
    symbols = torch.arange(levels, dtype=torch.uint8)
    integers = quantizer.dequantize(symbols, torch.zeros(levels, 0)) / 0.5
    inner = (integers > -(levels // 2)) & (integers < (levels - 1) // 2)
    wanted = rate.log_probabilities(integers.view(-1, 1).expand(-1, 3)).detach().exp().T
    np.testing.assert_allclose(tables[:, inner.numpy()], wanted[:, inner].numpy(), atol=1e-5)


def test_rans_sends_what_the_density_says() -> None:
    rate, quantizer = learnt(0.5), Step(0.5)
    fresh = latents(200, 2)
    estimate = rate(fresh).item() * fresh[0].numel()
    codec = RANS(per_channel=True).with_counts(rate.tables())
    symbols = quantizer.quantize(fresh)[0].numpy()
    joined = np.ascontiguousarray(symbols.transpose(1, 0, 2, 3))  # one array, so that states and container count little
    sent = 8 * len(codec.encode(joined, quantizer.levels)) / len(fresh)
    assert sent == pytest.approx(estimate, rel=0.01)


def test_probabilities_of_all_cells_add_up_to_one() -> None:
    rate = learnt(0.5)
    cells = torch.arange(-60, 61).float().view(-1, 1).expand(-1, 3)
    torch.testing.assert_close(rate.log_probabilities(cells).exp().sum(0), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_its_gradient_makes_latents_smaller() -> None:
    rate = deepcopy(learnt(0.5)).train()
    y = (latents(4) * 3).requires_grad_()
    rate(y).backward()
    assert y.grad is not None
    wide = y.grad[:, 1][y[:, 1].detach().abs() > 12]
    values = y[:, 1].detach()[y[:, 1].detach().abs() > 12]
    assert float((wide * values).sum()) > 0


def test_far_values_find_back() -> None:
    """Their gradient is finite and not zero, for latent and density alike."""
    rate = deepcopy(learnt(0.5)).train()
    y = torch.full((1, 3, 8, 8), 1e4, requires_grad=True)
    bits = rate(y)
    bits.backward()
    assert bits.item() > 1000
    for tensor in (y, rate.means, rate.log_scales):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
        assert bool((tensor.grad != 0).any())
    assert y.grad is not None
    assert bool((y.grad > 0).all())


def test_the_density_moves_to_latents_far_away() -> None:
    torch.manual_seed(0)
    rate = FactorizedRate()
    rate.begin([(1, 4, 4)], [Step(1.0)])
    y = 60 + torch.randn(16, 1, 4, 4)
    before = rate(y).item()
    optimizer = torch.optim.Adam(rate.parameters(), lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        rate(y).backward()
        optimizer.step()
    assert before > 40
    assert rate(y).item() < before / 5


def test_models_that_it_does_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match="needs one float tensor that crosses the cut, quantized by Step; this mo"):
        FactorizedRate().begin([(3, 8, 8)], [MinMax(4)])
    with pytest.raises(ValueError, match="this model has 2, quantized by Step, Step"):
        FactorizedRate().begin([(3, 8, 8), (3, 8, 8)], [Step(), Step()])
    with pytest.raises(RuntimeError, match="are not set: call begin, as tasks do"):
        FactorizedRate()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="the channels of FactorizedRate are not set"):
        FactorizedRate().tables()
    with pytest.raises(ValueError, match="components must be at least 1, got 0"):
        FactorizedRate(0)


@pytest.mark.slow
def test_a_share_of_the_positions_has_the_same_expectation() -> None:
    """A quarter of the 64 positions is drawn at each step; all count where nothing is trained."""
    whole, part = deepcopy(learnt(1.0)), FactorizedRate(share=0.25)
    y = latents(20) * torch.linspace(0.2, 3, 8)
    part.begin([(3, 8, 8)], [Step(1.0)])
    part.load_state_dict(whole.state_dict())
    assert torch.equal(part.eval()(y), whole(y))
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([part.train()(y) for _ in range(300)])
        every = torch.stack([whole.train()(y) for _ in range(30)])
    assert float(drawn.mean()) == pytest.approx(float(every.mean()), rel=0.02)
    assert drawn.std() > 3 * every.std()  # fewer positions were counted
    loss = part(y.requires_grad_())
    loss.backward()
    assert y.grad is not None
    assert int((y.grad != 0).any(0).any(0).sum()) == 16
    with pytest.raises(ValueError, match="share lies above 0 and is at most 1, got 0"):
        FactorizedRate(share=0)


def test_it_starts_with_the_density_of_a_trained_latent() -> None:
    torch.manual_seed(0)
    scales = torch.linspace(0.3, 6, 8).view(1, -1, 1, 1)
    latent = torch.distributions.Laplace(0.0, 1.0).sample((16, 8, 8, 8)) * scales + torch.randn(1, 8, 1, 1)
    rate = FactorizedRate()
    rate.begin([(8, 8, 8)], [Step(1.0, 256)])
    rate.match([latent])
    assert all(parameter.grad is None for parameter in rate.parameters())
    begun = float(rate.eval()(latent).detach())
    optimizer = torch.optim.Adam(rate.train().parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        rate(latent).backward()
        optimizer.step()
    assert begun < 1.01 * float(rate.eval()(latent).detach())
