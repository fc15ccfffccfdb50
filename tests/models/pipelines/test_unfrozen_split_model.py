"""A split network that trains as a whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from splitlearn.codecs import Huffman
from splitlearn.data import Digits
from splitlearn.deploy import export_bottleneck
from splitlearn.losses import L1Rate
from splitlearn.models import DepthwiseSeparable, UnfrozenSplitModel, thaw
from splitlearn.outputs import Features
from splitlearn.quantizers import Step
from splitlearn.tasks import ClassificationTask
from tests.networks import datta, digits, halves
from tests.tasks.conftest import MakeTrainer, make_trainer

__all__ = ["make_trainer"]


def unfrozen() -> UnfrozenSplitModel:
    unit = partial(DepthwiseSeparable, channels=8, stride=2)
    return UnfrozenSplitModel(halves("layer2"), Step(0.125), Huffman(), unit)


def test_network_and_bottleneck_train(make_trainer: MakeTrainer) -> None:
    model = unfrozen()
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    task = ClassificationTask(model, 10, L1Rate(), 0.01)
    make_trainer().fit(task, Digits(batch_size=32))
    changed = {name for name, tensor in model.net.state_dict().items() if not torch.equal(tensor, before[name])}
    names = {name for name, _ in model.net.named_parameters()}
    assert names <= changed  # head and tail
    assert any(name.endswith("running_mean") for name in changed)  # batch norm counts
    images = digits(8)
    model.eval()
    assert torch.equal(model.decompress(model.compress(images)), model(images))


def test_it_starts_as_the_frozen_one_does() -> None:
    images, torch_model = digits(4), unfrozen()
    frozen = datta()
    torch_model.coder.bottlenecks.load_state_dict(frozen.coder.bottlenecks.state_dict())
    assert torch.equal(torch_model.eval()(images), frozen(images))
    assert frozen.frozen
    assert not torch_model.frozen


def test_what_needs_a_frozen_head_is_refused(tmp_path: Path) -> None:
    model = unfrozen()
    with pytest.raises(ValueError, match="the head trains, so features that it made before cannot be used"):
        model.features(Features((torch.zeros(1, 32, 8, 8),), 64))
    with pytest.raises(ValueError, match="the network of this model trains too"):
        export_bottleneck(model, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_thaw_undoes_freeze() -> None:
    model = datta()
    norms = [m for m in thaw(model.net).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    model.train()
    assert norms
    assert all(norm.training for norm in norms)
    assert all(p.requires_grad for p in model.net.parameters())


def test_it_is_in_training_mode_with_and_without_a_rate_loss(make_trainer: MakeTrainer) -> None:
    for rate_loss in (None, L1Rate()):
        model = unfrozen()
        before = model.net.get_buffer("head.bn1.running_mean").clone()
        assert model.training
        assert all(module.training for module in model.modules())
        make_trainer().fit(ClassificationTask(model, 10, rate_loss, 0.0), Digits(batch_size=32))
        assert not torch.equal(model.net.get_buffer("head.bn1.running_mean"), before)


def test_looking_at_shapes_changes_no_modes() -> None:
    model = unfrozen()
    model.net.eval()
    modes = [module.training for module in model.modules()]
    assert model.coder.latent_shapes == [(8, 8, 8)]
    assert [module.training for module in model.modules()] == modes
