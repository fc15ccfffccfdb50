"""Shipped weights are what their records say."""

import hashlib
import json
from pathlib import Path

import pytest
from lightning import Trainer

from splitlearn.data import Digits
from splitlearn.models import InputModel, resnet8, resnet20
from splitlearn.tasks import ClassificationTask

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FILES = sorted(CHECKPOINTS.rglob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_record_fits(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    content = path.read_bytes()
    assert record["file"] == path.name
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert record["licence"]
    assert record["config"]
    assert path.stem in (CHECKPOINTS / "README.md").read_text()


def test_digits_backbone_scores_what_its_record_says() -> None:
    path = CHECKPOINTS / "resnet8_digits.safetensors"
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    task = ClassificationTask(InputModel(resnet8(weights=path)), num_classes=10)
    found = trainer.test(task, Digits(), verbose=False)[0]["test/accuracy"]
    expected = json.loads(path.with_suffix(".json").read_text())["metrics"]["test/accuracy"]
    assert abs(found - expected) < 0.5 / 297  # not one image differs


def test_cifar_backbone_loads() -> None:
    assert resnet20(weights=CHECKPOINTS / "resnet20_cifar10_jpeg.safetensors").num_classes == 10
