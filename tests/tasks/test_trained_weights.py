"""What a run has trained, without the frozen network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splitlearn.codecs import Huffman
from splitlearn.models import NormalizedSeparable, SplitModel, resnet8, split
from splitlearn.quantizers import Step
from splitlearn.tasks import CheckpointError, ClassificationTask, FrozenError
from splitlearn.tasks.trained_weights import load_trained, save_trained


def task(seed: int, network: int = 0, channels: int = 4) -> ClassificationTask:
    torch.manual_seed(network)
    cut = split(resnet8(), "layer2", (3, 32, 32))
    torch.manual_seed(seed)
    return ClassificationTask(
        SplitModel(cut, Step(1.0), Huffman(), lambda shape: NormalizedSeparable(shape, channels=channels, stride=2)), 10
    )


def test_a_bottleneck_and_its_tables_come_back_beside_the_network(tmp_path: Path) -> None:
    first, second, images = task(1), task(2), torch.rand(4, 3, 32, 32)
    model = first.model
    assert isinstance(model, SplitModel)
    symbols = [each.numpy() for each in model.coder.symbols(model.run(images).latents)]
    model.coder.codecs = tuple(
        c.fitted(list(s), q.levels) for c, s, q in zip(model.coder.codecs, symbols, model.coder.quantizers, strict=True)
    )
    save_trained(first, tmp_path / "trained.ckpt")
    load_trained(second, tmp_path / "trained.ckpt")
    assert second.model.eval().compress(images) == first.model.eval().compress(images)
    whole = sum(t.nbytes for t in first.state_dict().values() if isinstance(t, torch.Tensor))
    assert (tmp_path / "trained.ckpt").stat().st_size < whole / 4  # the network is not in it


def test_another_network_or_bottleneck_is_refused(tmp_path: Path) -> None:
    save_trained(task(1), tmp_path / "trained.ckpt")
    with pytest.raises(FrozenError, match=r"tensors of the frozen network have changed since training began"):
        load_trained(task(1, network=5), tmp_path / "trained.ckpt")
    with pytest.raises(CheckpointError, match="belongs to another architecture"):
        load_trained(task(1, channels=8), tmp_path / "trained.ckpt")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_trained(task(1), tmp_path / "nothing.ckpt")
