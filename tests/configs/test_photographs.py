"""Training without labels runs from both stages to payloads, and a classifier is put on a frozen network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from splitlearn.commands.export import export
from splitlearn.config.loading import load_task
from splitlearn.models import frozen_modules
from splitlearn.tasks import TrainFromCache
from tests.configs.runs import BASE, PHOTOGRAPHS, run

SMALL = """
trainer: {max_steps: 1, val_check_interval: 1}
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 64, 64], model: {init_args: {weights: FILE}}}}}}}
data: {init_args: {image_size: 64, test_size: 10}}
"""
MAKES = {
    "mobilenet_v2": "mobilenet_v2_imagenet.safetensors",
    "mobilenet_v2 behind_features10": "mobilenet_v2_imagenet.safetensors",
    "mobilenet_v2 behind_features14": "mobilenet_v2_imagenet.safetensors",
    "mobilenet_v2_pixels": "mobilenet_v2_imagenet.safetensors",
    "resnet20": "resnet20_cifar10.safetensors",
    "deeplabv3_mobilenetv2": "deeplabv3_mobilenetv2_voc_fp16.safetensors",
    "yolov8n": "yolov8n_coco_fp16.safetensors",
}  # weights that real networks need to find anything in an image
SMALL_CLASSIFIER = """
model:
  init_args: {model: {init_args: {network: {init_args: {model: {init_args: {model: {init_args: {weights: null}}}}}}}}}
data: {init_args: {image_size: 64, resize: 64}}
"""


def kept_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep cached features in a folder of the test's own, in one view."""
    setup = TrainFromCache.setup

    def moved(cache: TrainFromCache, trainer: Any, task: Any, stage: str) -> None:
        cache.folder, cache.views = folder, 1
        setup(cache, trainer, task, stage)

    monkeypatch.setattr(TrainFromCache, "setup", moved)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* are smaller than 64 pixels")  # the test's images have 32
@pytest.mark.parametrize("network", sorted(MAKES))
def test_both_stages_without_labels(
    network: str, tmp_path: Path, image_folder: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if network == "yolov8n":
        pytest.importorskip("ultralytics")
    monkeypatch.syspath_prepend(str(shared_data / "weights"))  # a user's own network lies there
    kept_at(tmp_path / "features", monkeypatch)
    small = tmp_path / "small.yaml"
    small.write_text(SMALL.replace("FILE", str(shared_data / "weights" / MAKES[network])))
    for stage, options in (
        ("stage1", []),
        ("stage2", ["--model.weights", str(tmp_path / "stage1/bottleneck.safetensors")]),
    ):
        path, folder = PHOTOGRAPHS / f"{stage}.yaml", tmp_path / stage
        monkeypatch.setitem(BASE, path, tuple(PHOTOGRAPHS / f"{name}.yaml" for name in network.split()))
        folder.mkdir()
        words = ["--config", str(small), *options]
        run(monkeypatch, "fit", path, folder, image_folder, *words)
        export(next(folder.rglob("best.ckpt")), folder, config=next(folder.rglob("config.yaml")))
        run(monkeypatch, "test", path, folder, image_folder, *words, "--ckpt_path", "last")
        results = json.loads(next(folder.rglob("results.json")).read_text())
        assert results["test/agreement"] <= 1
        assert results["test/bytes_per_image"] > 9
    assert len(list((tmp_path / "features").iterdir())) == 1  # both stages share it


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* are smaller than 64 pixels")
def test_labels_join(tmp_path: Path, image_folder: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_at(tmp_path / "features", monkeypatch)
    small = tmp_path / "small.yaml"
    small.write_text(
        SMALL.replace("FILE", str(shared_data / "weights" / MAKES["mobilenet_v2"])).replace("test_size", "val_size")
    )
    path = PHOTOGRAPHS / "stage2.yaml"
    monkeypatch.setitem(BASE, path, tuple(PHOTOGRAPHS / f"{name}.yaml" for name in ("mobilenet_v2", "labels")))
    words = ["--config", str(small), "--data.resize", "64", "--model.weights", "null"]
    run(monkeypatch, "fit", path, tmp_path, image_folder, *words)
    task: Any = load_task(next(tmp_path.rglob("last.ckpt")))
    assert isinstance(task.label_loss, nn.CrossEntropyLoss)


@pytest.mark.slow
def test_a_classifier_on_a_frozen_network(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_CLASSIFIER)
    path = PHOTOGRAPHS / "caltech101_classifier.yaml"
    classes = ["--model.num_classes", "10", "--model.model.network.model.by.out_features", "10"]
    run(monkeypatch, "fit", path, tmp_path, image_folder, "--config", str(small), *classes)
    model: Any = load_task(next(tmp_path.rglob("last.ckpt"))).model
    network: nn.Module = model.network
    assert "features" in frozen_modules(network)
    trains = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trains == {"classifier.1.weight", "classifier.1.bias"}
