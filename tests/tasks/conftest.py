from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer

from splitlearn.data import Digits

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """A Trainer on the CPU that writes nothing unless asked to and takes three batches an epoch."""

    def make(**options: Any) -> Trainer:
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "max_epochs": 1,
            "limit_train_batches": 3,
            "limit_val_batches": 2,
            "limit_test_batches": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        }
        return Trainer(**quiet | options)

    return make


@pytest.fixture
def data() -> Digits:
    return Digits(batch_size=32)
