"""What may be asked of a trainer: averaged weights, no checkpoints, odd batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI

from splitlearn.config.loading import load_task
from splitlearn.config.messages import one_sentence
from splitlearn.models import frozen_tensors
from tests.commands.conftest import Run

CHECKPOINT = "runs/small/version_0/checkpoints/last.ckpt"


def test_lightning_still_has_what_is_replaced_in_it() -> None:
    """Names that it does not promise: without them our own would be called by nobody."""
    assert callable(LightningCLI._parse_ckpt_path)
    assert callable(LightningCLI._instantiate_trainer)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert callable(trainer._signal_connector.register_signal_handlers)


@pytest.mark.slow
def test_averaged_weights_leave_the_network_as_it_is(fit: Run, run: Run) -> None:
    averaging = ("--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.001")
    assert fit("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1", *averaging).status == 0
    norms = {name: t for name, t in frozen_tensors(load_task(CHECKPOINT)).items() if name.endswith("running_var")}
    assert norms
    assert all(torch.equal(t, torch.ones_like(t)) for t in norms.values())  # as the network was built
    assert run("export", "--ckpt_path", CHECKPOINT, "--out", "out").status == 0


@pytest.mark.slow
def test_a_changed_network_is_not_exported_tested_or_trained_on(fit: Run, run: Run) -> None:
    assert fit("--trainer.limit_train_batches", "1").status == 0
    content = torch.load(CHECKPOINT, weights_only=True)
    next(t for name, t in content["state_dict"].items() if name.endswith("running_var")).zero_()
    torch.save(content, CHECKPOINT)
    for words in (
        ("export", "--ckpt_path", CHECKPOINT, "--out", "out"),
        ("test", "--config", "small.yaml", "--ckpt_path", CHECKPOINT),
        ("fit", "--config", "small.yaml", "--ckpt_path", CHECKPOINT, "--trainer.max_epochs", "2"),
    ):
        outcome = run(*words)
        assert outcome.status == 1
        assert "tensors of the frozen network have changed since training began" in outcome.error
    assert not Path("out").exists()


@pytest.mark.slow
def test_without_checkpoints(fit: Run) -> None:
    outcome = fit("--trainer.enable_checkpointing", "false", "--trainer.limit_train_batches", "1")
    assert outcome.status == 0, outcome.err
    assert not list(Path("runs").rglob("*.ckpt"))


def test_a_batch_of_one_image_is_explained() -> None:
    norm = torch.nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match="Expected more") as caught:
        norm(torch.rand(1, 4, 1, 1))
    assert "choose a batch_size that leaves no single image" in one_sentence(caught.value)
