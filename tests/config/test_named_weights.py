"""Checkpoints that bring other weights than a config names, and forged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from splitlearn.codecs import Huffman
from splitlearn.config.named_weights import check_named_weights
from splitlearn.models import InputModel, SplitModel, resnet8, resnet20, split
from splitlearn.quantizers import Step
from splitlearn.tasks import CheckpointError, ClassificationTask
from splitlearn.tasks.loading import CONFIG_KEY

FILE = Path("last.ckpt")


def settings(weights: str) -> dict[str, Any]:
    return {"init_args": {"model": {"init_args": {"network": {"init_args": {"weights": weights}}}}}}


def cut(network: nn.Module | None = None) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(SplitModel(split(network or resnet8(), "layer2", (3, 32, 32)), Step(1.0), Huffman()), 10)


def test_another_architecture_is_told_as_such() -> None:
    content = {"state_dict": cut(resnet20()).state_dict()}
    with pytest.raises(CheckpointError, match=r"last.ckpt belongs to another architecture"):
        check_named_weights(cut(), settings("a.safetensors"), content, FILE)


@pytest.mark.parametrize("wrong", [None, 7, "x", {}])
def test_what_is_no_tensor_is_told(wrong: Any) -> None:
    state = cut().state_dict()
    name = next(name for name in state if name.endswith("weight"))
    with pytest.raises(CheckpointError, match=rf"last.ckpt belongs to another architecture: 1 entries .*{name}"):
        check_named_weights(cut(), settings("a.safetensors"), {"state_dict": {**state, name: wrong}}, FILE)


@pytest.mark.parametrize("config", [None, 7, [], {"model": 3}, {"model": {3: 4}}, {"model": {"init_args": []}}])
def test_a_config_that_is_none_says_nothing(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task = ClassificationTask(InputModel(resnet8()), 10)
    content = {"state_dict": task.state_dict(), CONFIG_KEY: config}
    check_named_weights(task, settings("a.safetensors"), content, FILE)
    assert capsys.readouterr().err == ""


def test_weights_without_effect_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    task = ClassificationTask(InputModel(resnet8()), 10)
    content = {"state_dict": task.state_dict(), CONFIG_KEY: {"model": settings("b.safetensors")}}
    check_named_weights(task, settings("a.safetensors"), content, FILE)
    assert "so model.model.network.weights a.safetensors has no effect" in capsys.readouterr().err
