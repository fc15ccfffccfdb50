"""Limits and levels are the same whatever precision a model is cast to."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from splitlearn.codecs import Huffman
from splitlearn.models import EarlyExitModel, NormalizedSeparable, SplitModel, resnet8, split
from splitlearn.quantizers import Clipped

TYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])


def clipped() -> SplitModel:
    torch.manual_seed(0)
    net = split(resnet8(), "layer2", (3, 32, 32))
    bottleneck = partial(NormalizedSeparable, channels=4)
    return SplitModel(net, Clipped(0.013, 3.33, levels=7), Huffman(), bottleneck=bottleneck).eval()


@TYPES
def test_a_server_reads_what_a_model_of_another_precision_sends(dtype: torch.dtype) -> None:
    server, device = clipped(), clipped().to(dtype)
    assert device.coder.quantizers[0].state_dict()["values"].dtype == torch.float32
    images = torch.rand(3, 3, 32, 32)
    payloads = device.compress(images)
    latents = device.coder.latents(device.features(images))
    assert torch.equal(server.coder.latents_hat(payloads)[0], server.coder.quantizers[0](latents[0]))
    assert device.coder.latent_shapes == server.coder.latent_shapes
    assert device.float().coder.context == server.coder.context


@TYPES
def test_state_dicts_of_other_types_do_not_cast_limits(dtype: torch.dtype) -> None:
    model = clipped()
    state = {name: t.to(dtype) if isinstance(t, torch.Tensor) else t for name, t in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model.coder.quantizers[0].state_dict()["thresholds"].dtype == torch.float32


@TYPES
def test_early_exits_work_in_other_precisions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = split(resnet8(), "layer2", (3, 32, 32))
    model = EarlyExitModel(net, Clipped(0.0, 3.0), Huffman(), exits=["layer1"]).eval().to(dtype)
    images = torch.rand(8, 3, 32, 32)
    model.threshold = float(model.confidence(model.run(images).exits[0].detach().float()).median())
    payloads = model.compress(images)
    assert 0 < sum(map(bool, payloads)) < 8
    assert model(images).dtype == model.decompress(payloads).dtype == dtype
