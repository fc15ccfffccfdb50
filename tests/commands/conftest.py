from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from splitlearn.commands import main

SMALL = """
seed_everything: 0
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 1
  limit_train_batches: 2
  limit_val_batches: 1
  limit_test_batches: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args: {save_dir: runs, name: small}
checkpoint: {monitor: val/accuracy, mode: max, auto_insert_metric_name: false, filename: best, save_last: true}
model:
  class_path: splitlearn.tasks.ClassificationTask
  init_args:
    num_classes: 10
    model:
      class_path: splitlearn.models.SplitModel
      init_args:
        net:
          class_path: splitlearn.models.split
          init_args:
            model: {class_path: splitlearn.models.resnet20, init_args: {weights: null}}
            at: layer2
            example: [3, 32, 32]
        bottleneck: {class_path: splitlearn.models.DepthwiseSeparable, init_args: {channels: 8, stride: 2}}
        quantizer: {class_path: splitlearn.quantizers.Step, init_args: {step: 0.5}}
        codec: {class_path: splitlearn.codecs.Huffman}
    rate_loss: {class_path: splitlearn.losses.L1Rate}
    rate_weight: 0.1
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
data: {class_path: splitlearn.data.Digits, init_args: {batch_size: 16}}
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a failure leaves, without its prefix."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("splitlearn: error: ")]
        assert "Traceback" not in self.err
        return line.removeprefix("splitlearn: error: ")


Run = Callable[..., Outcome]


def run_in(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "splitlearn", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, in an empty folder that holds small.yaml."""
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # Lightning's log handler keeps the stream of the test that imported it, which is closed by now
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.delenv("SPLITLEARN_TRACEBACK", raising=False)

    def call(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["splitlearn", *words])
        capfd.readouterr()
        status = main()
        return Outcome(status, *capfd.readouterr())

    return call


@pytest.fixture
def fit(run: Run) -> Run:
    """Run `fit --config small.yaml` with more options."""
    return lambda *words: run("fit", "--config", "small.yaml", *words)
