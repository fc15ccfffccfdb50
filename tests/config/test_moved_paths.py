"""Class paths of version 0.1 in configs, on command lines, in checkpoints and in results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from splitlearn.commands.bank import _settings
from splitlearn.config.build import build_task, config_settings, settings_of, task_from
from splitlearn.config.loading import load_task
from splitlearn.config.messages import with_remedy_for_import
from splitlearn.discovery import current_path, with_current_paths
from splitlearn.models import DepthwiseSeparable, NormalizedSeparable
from splitlearn.tasks.loading import CONFIG_KEY
from tests.commands.conftest import SMALL, Run

OLD = {
    "splitlearn.models.DepthwiseSeparable": "splitlearn.models.bottleneck.DepthwiseSeparable",
    "splitlearn.models.SplitModel": "splitlearn.models.split_model.SplitModel",
    "splitlearn.models.resnet20": "splitlearn.models.resnet_cifar.resnet20",
}


def old(text: str) -> str:
    """Return a config as it may have been written for version 0.1."""
    for now, before in OLD.items():
        assert now in text
        text = text.replace(now, before)
    return text


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "old.yaml"
    path.write_text(old(SMALL))
    return path


@pytest.mark.parametrize(
    ("before", "now"),
    [
        *((before, now) for now, before in OLD.items()),
        ("splitlearn.models.tiled_model.TiledFeatures", "splitlearn.models.TiledFeatures"),
        ("splitlearn.grids.MinMaxGrid", "splitlearn.numpy_quantizers.MinMaxGrid"),
        ("splitlearn.grids.clipped.ClippedGrid", "splitlearn.numpy_quantizers.clipped.ClippedGrid"),
        ("splitlearn.cli.messages.UsageError", "splitlearn.config.messages.UsageError"),
        ("splitlearn.tasks.load_task", "splitlearn.config.loading.load_task"),
        ("splitlearn.tasks.DetectorTask", "splitlearn.tasks.DetectorTrainingTask"),
        ("splitlearn.tasks.FoundObjects", "splitlearn.tasks.DetectionScores"),
        ("splitlearn.tasks.NamedClasses", "splitlearn.tasks.ClassificationScores"),
        ("splitlearn.models.SplitModel", "splitlearn.models.SplitModel"),
        ("splitlearn.codecs.huffman.Huffman", "splitlearn.codecs.huffman.Huffman"),
        ("splitlearn.models.bottleneck.Unknown", "splitlearn.models.bottleneck.Unknown"),
        ("own.models.bottleneck.DepthwiseSeparable", "own.models.bottleneck.DepthwiseSeparable"),
    ],
)
def test_paths_of_today(before: str, now: str) -> None:
    assert current_path(before) == now


def test_settings_are_read_at_any_depth_and_words_as_values() -> None:
    before, now = OLD["splitlearn.models.SplitModel"], "splitlearn.models.SplitModel"
    assert with_current_paths({"a": [{"class_path": before}, 1, None]}) == {"a": [{"class_path": now}, 1, None]}
    words = ["--model", before, f"--model.model={before}", f"of {before}"]
    assert with_current_paths(words) == ["--model", now, f"--model.model={now}", f"of {before}"]


def test_a_config_of_before_builds(config: Path) -> None:
    model: Any = build_task(config, None)[0].get_submodule("model")
    assert isinstance(model.coder.bottlenecks[0], DepthwiseSeparable)
    words = ("--model.model.bottleneck", "splitlearn.models.bottleneck.NormalizedSeparable")
    model = build_task(config, None, words)[0].get_submodule("model")
    assert isinstance(model.coder.bottlenecks[0], NormalizedSeparable)
    assert "splitlearn.models.bottleneck." not in str(settings_of(["--config", str(config)]))


def test_lightnings_commands_take_it(run: Run, config: Path) -> None:
    words = ("--model.model.bottleneck", "splitlearn.models.bottleneck.NormalizedSeparable")
    outcome = run("fit", "--config", str(config), *words, "--trainer.fast_dev_run", "1")
    assert outcome.status == 0, outcome.error


def test_a_checkpoint_of_before_loads(config: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    state = task_from(settings["model"]).state_dict()
    torch.save({"state_dict": state, CONFIG_KEY: settings, "epoch": 1}, tmp_path / "last.ckpt")
    loaded = load_task(tmp_path / "last.ckpt").state_dict()
    assert loaded.keys() == state.keys()


def test_a_sweep_of_before_makes_a_bank_of_today(config: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    found = _settings({"config": settings}, Path("results.json"), None, False)
    assert found == yaml.safe_load(SMALL)
    assert config_settings(config, None)["model"]["init_args"]["model"]["class_path"] == "splitlearn.models.SplitModel"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("No module named 'splitlearn.models.bottleneck'", "import its contents from splitlearn.models"),
        ("No module named 'splitlearn.grids'", "import its contents from splitlearn.numpy_quantizers"),
        (
            "cannot import name 'load_task' from 'splitlearn.tasks' (x.py)",
            "it is now splitlearn.config.loading.load_task",
        ),
    ],
)
def test_own_code_that_imports_from_where_things_were_is_told(message: str, remedy: str) -> None:
    assert with_remedy_for_import(message, ()) == f"{message}; {remedy}"
