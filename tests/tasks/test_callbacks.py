"""Callbacks: tables learnt while training, and the layout of weights."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from splitlearn.codecs import RANS, Huffman
from splitlearn.data import Digits
from splitlearn.losses import FactorizedRate, L1Rate
from splitlearn.models import InputModel, NormalizedSeparable, SplitModel
from splitlearn.quantizers import Step
from splitlearn.tasks import ChannelsLast, ClassificationTask, FoldedNorms, LearntTables, StaticTables
from tests.networks import datta, digits, halves, network
from tests.tasks.conftest import MakeTrainer


def symbols_of_validation(model: SplitModel, data: Digits, count: int) -> list[Any]:
    symbols: list[Any] = []
    for batch in data.val_dataloader():
        images, _ = data.on_after_batch_transfer(batch, 0)
        symbols += list(model.symbols(images)[0].numpy())
    return symbols[:count]


def test_tables_are_learnt_and_saved(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    task = ClassificationTask(datta(), 10)
    checkpoint = ModelCheckpoint(tmp_path, save_last=True, monitor="val/accuracy", mode="max")
    trainer = make_trainer(enable_checkpointing=True, callbacks=[StaticTables(), checkpoint])
    trainer.fit(task, data)
    model = task.model.eval()
    assert isinstance(model, SplitModel)
    learnt = model.coder.codecs[0].tables()["lengths"]
    expected = Huffman.fit(symbols_of_validation(model, data, 64), model.coder.quantizers[0].levels).tables()["lengths"]
    np.testing.assert_array_equal(learnt, expected)
    assert trainer.callback_metrics["val/table_bytes"] == learnt.nbytes

    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["model.coder._extra_state"]
    np.testing.assert_array_equal(saved["tables"][0]["lengths"].numpy(), learnt)

    images = digits(32)
    fitted = model.compress(images)
    assert torch.equal(model.decompress(fitted), model(images))
    model.coder.codecs = (Huffman(),)
    alone = model.compress(images)
    assert sum(map(len, fitted)) < sum(map(len, alone))


def test_only_as_many_images_as_asked_for(make_trainer: MakeTrainer, data: Digits) -> None:
    tables = StaticTables(images=40)
    task = ClassificationTask(datta(), 10)
    make_trainer(callbacks=[tables], limit_val_batches=4).validate(task, data, verbose=False)
    model = task.model.eval()
    assert isinstance(model, SplitModel)
    expected = Huffman.fit(symbols_of_validation(model, data, 40), model.coder.quantizers[0].levels).tables()["lengths"]
    np.testing.assert_array_equal(model.coder.codecs[0].tables()["lengths"], expected)


def test_tables_need_a_model_with_symbols(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(InputModel(network()), 10)
    with pytest.raises(ValueError, match="StaticTables needs a task with a SplitModel"):
        make_trainer(callbacks=[StaticTables()]).validate(task, data, verbose=False)


def test_tables_of_the_learnt_density(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(datta(codec=RANS(per_channel=True)), 10, FactorizedRate(), 0.1)
    trainer = make_trainer(callbacks=[LearntTables()])
    trainer.fit(task, data)
    assert isinstance(task.model, SplitModel)
    assert isinstance(task.rate_loss, FactorizedRate)
    tables = task.model.coder.codecs[0].tables()["frequencies"]
    expected = RANS(per_channel=True).with_counts(task.rate_loss.tables()).tables()["frequencies"]
    np.testing.assert_array_equal(tables, expected)
    assert trainer.callback_metrics["val/table_bytes"] == tables.nbytes
    images, model = digits(32), task.model.eval()
    assert torch.equal(model.decompress(model.compress(images)), model(images))


@pytest.mark.slow
def test_estimated_bits_are_what_is_sent(make_trainer: MakeTrainer, data: Digits) -> None:
    """Within a per cent: the container's 12 bytes and the eight states of three are known beforehand."""
    unit = partial(NormalizedSeparable, channels=16, stride=1)
    codec = RANS(per_channel=True)
    model = SplitModel(halves("layer1"), Step(0.25, levels=32), codec, unit)
    rate = FactorizedRate()
    task = ClassificationTask(model, 10, rate, 0.1, optimizer=partial(torch.optim.Adam, lr=0.05))
    trainer = make_trainer(max_epochs=1, limit_train_batches=30, limit_val_batches=2, callbacks=[StaticTables()])
    trainer.fit(task, data)
    model.eval()
    batches = [data.on_after_batch_transfer(batch, 0)[0] for batch in islice(data.val_dataloader(), 2)]
    payloads = [payload for images in batches for payload in model.compress(images)]
    sent = 8 * sum(len(payload) - 12 - 8 * 3 for payload in payloads) / len(payloads)
    assert sent == pytest.approx(trainer.callback_metrics["val/estimated_bits"].item(), rel=0.01)


@pytest.mark.parametrize("per_channel", [True, False])
def test_learnt_tables_need_a_density_and_tables_for_channels(
    make_trainer: MakeTrainer, data: Digits, per_channel: bool
) -> None:
    loss = L1Rate() if per_channel else FactorizedRate()
    task = ClassificationTask(datta(codec=RANS(per_channel)), 10, loss, 0.1)
    with pytest.raises(ValueError, match=r"LearntTables needs a SplitModel .* or use StaticTables"):
        make_trainer(callbacks=[LearntTables()]).fit(task, data)


class Layouts(Callback):
    """Note how the first convolution lies in memory, and how its output does."""

    def __init__(self) -> None:
        self.weights: list[bool] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.weights.append(_is_channels_last(pl_module))


def _is_channels_last(task: LightningModule) -> bool:
    weight = task.get_parameter("model.network.layer1.0.conv1.weight")
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_weights_are_channels_last_while_fitting_only(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(InputModel(network()), 10)
    layouts = Layouts()
    make_trainer(callbacks=[ChannelsLast(), layouts], limit_val_batches=0).fit(task, data)
    assert layouts.weights == [True] * 3
    assert not _is_channels_last(task)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only the C library of Linux is told")
def test_freed_memory_stays_with_the_process() -> None:
    script = """
import torch
from splitlearn.tasks import keep_freed_memory
def grown():
    before = int(open("/proc/self/statm").read().split()[1])
    torch.ones(2**26)
    return (int(open("/proc/self/statm").read().split()[1]) - before) * 4096
given_back = grown()
assert keep_freed_memory()
assert given_back < 2**25 < 2**27 < grown()
"""
    subprocess.check_call([sys.executable, "-c", script])


def test_norms_are_folded_while_fitting_only(make_trainer: MakeTrainer, data: Digits) -> None:
    task = ClassificationTask(datta(), 10)
    model = task.model
    assert isinstance(model, SplitModel)
    head = model.net.get_submodule("head")
    own_forwards = [vars(module).get("forward") for module in model.modules()]
    folded = []

    class Seen(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            norms = [m for m in head.modules() if isinstance(m, torch.nn.BatchNorm2d)]
            folded.append(bool(norms) and all("forward" in vars(norm) for norm in norms))

    make_trainer(callbacks=[FoldedNorms(), Seen()], limit_val_batches=0).fit(task, data)
    assert folded == [True] * 3
    assert [vars(module).get("forward") for module in model.modules()] == own_forwards
