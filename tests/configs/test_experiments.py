"""Every shipped experiment runs a step on generated data, and its payloads are lossless."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from splitlearn.commands.bank import bank
from splitlearn.config.loading import load_task
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.deploy import export_bottleneck, export_early_exit, load_bank, load_bottleneck
from splitlearn.models import CompressionModel, EarlyExitModel, GainModel, SplitModel, split
from splitlearn.sweep import Space
from splitlearn.tasks.loading import CONFIG_KEY, read_checkpoint
from tests.configs.runs import (
    BASE,
    CONFIGS,
    EXPERIMENTS,
    ONE_STEP,
    PHOTOGRAPHS,
    RCNNS,
    ROOT,
    STREAMS,
    Measured,
    check_results,
    each,
    run,
)
from tests.networks import narrow_networks

DETECTORS = [p for p in EXPERIMENTS if "DetectionTask" in p.read_text() and p not in RCNNS]
SEGMENTERS = [p for p in EXPERIMENTS if "SegmentationTask" in p.read_text()]
PUBLISHED = [
    p
    for p in EXPERIMENTS
    if "name: torchvision/" in BASE.get(p, (p,))[0].read_text()
    and p not in [*RCNNS, *SEGMENTERS, *STREAMS]
    and p.parent != PHOTOGRAPHS
]
OWN = [
    p
    for p in EXPERIMENTS
    if p not in [*RCNNS, *DETECTORS, *SEGMENTERS, *PUBLISHED, *STREAMS] and p.parent != PHOTOGRAPHS
]  # weights and data of 32 pixels
SMALL_DETECTOR = """
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 64, 64], model: {init_args: {weights: null}}}}}}}
data: {init_args: {image_size: 64, batch_size: 2}}
"""
SMALL_NETWORK = SMALL_DETECTOR.replace("image_size: 64", "image_size: 64, resize: 64")
SMALL_SEGMENTER = """
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 33, 33], model: {init_args: {weights: null}}}}}}}
data: {init_args: {image_size: 33, val_size: 2}}
"""


@each(OWN)
def test_experiment_runs_and_is_lossless(
    path: Path, tmp_path: Path, image_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.parent.name in ("carra2023", "cohen2020") or path.stem.startswith("bank_"):  # nothing to train
        run(monkeypatch, "test", path, tmp_path, image_folder)
    else:
        run(monkeypatch, "fit", path, tmp_path, image_folder)
        run(monkeypatch, "test", path, tmp_path, image_folder, "--ckpt_path", "last")
        if path.stem == "full_model":  # which has no bottleneck to export
            pass
        elif path.stem.startswith("gains_"):
            check_bank(next(tmp_path.rglob("last.ckpt")), image_folder, tmp_path)
        else:
            check_export(next(tmp_path.rglob("last.ckpt")), tmp_path)
    check_results(tmp_path, measured)


@each(PUBLISHED)
def test_network_for_imagenet_runs_on_small_images(
    path: Path, tmp_path: Path, image_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow_networks(monkeypatch)
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_NETWORK.replace("weights: null", "weights: null, num_classes: 10"))
    classes = ["--model.num_classes", "10"]
    if path.parent.name == "datta2022":
        run(monkeypatch, "fit", path, tmp_path, image_folder, "--config", str(small), *classes)
    run(monkeypatch, "test", path, tmp_path, image_folder, "--config", str(small), *classes)
    check_results(tmp_path, measured)


@pytest.mark.slow
def test_mobilenet_takes_weights_from_tensorflow(
    tmp_path: Path, thousand_classes: Path, shared_data: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_NETWORK)
    weights = shared_data / "weights/mobilenet_v2_imagenet.safetensors"
    options = ["--config", str(small), "--model.model.net.model", "splitlearn.models.mobilenet_v2_same"]
    options += ["--model.model.net.model.weights", str(weights)]
    run(monkeypatch, "test", CONFIGS / "carra2023/mobilenet_v2.yaml", tmp_path, thousand_classes, *options)
    check_results(tmp_path, measured)


@each(DETECTORS)
@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_detector_runs_on_small_images(
    path: Path, tmp_path: Path, box_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics")
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_DETECTOR)
    run(monkeypatch, "test", path, tmp_path, box_folder, "--config", str(small))
    results = json.loads(next(tmp_path.rglob("results.json")).read_text())
    assert results["test/bytes_per_image"] > 9
    assert 0 <= results["test/map"] <= results["test/map_50"] <= 1
    run(monkeypatch, "predict", path, tmp_path, box_folder, "--config", str(small))
    table = next(tmp_path.rglob("predictions.csv")).read_text().splitlines()
    assert table[0] == "image,file,class,name,score,left,top,right,bottom"


@each(SEGMENTERS)
def test_segmentation_trains_is_measured_and_exported(
    path: Path, tmp_path: Path, mask_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """A trial of a sweep over the space of the paper, from cached features, on images of 33 pixels."""
    narrow_networks(monkeypatch)
    weights = "null"
    if path.stem == "deeplabv3_mobilenetv2":  # a network of a user's own
        shared = request.getfixturevalue("shared_data") / "weights"
        monkeypatch.syspath_prepend(str(shared))
        weights = str(shared / "deeplabv3_mobilenetv2_voc_fp16.safetensors")
    monkeypatch.chdir(ROOT)
    small = tmp_path / "small.yaml"
    small.write_text(ONE_STEP + SMALL_SEGMENTER.replace("null", weights))
    words = [word for config in (CONFIGS / "trainer.yaml", path, small) for word in ("--config", str(config))]
    words += ["--data.root", str(mask_folder)]
    trial = ConfigTrial(tuple(words), tmp_path / "sweep", "sweep", tmp_path / "features", "float16", views=2)
    point = Space.read(CONFIGS / "spaces/datta2022_segmentation.yaml").point(0, 0)
    metrics = trial(0, point | {"model.model.bottleneck.stride": 2})  # the maps of so small images are 3×3
    assert {"val/miou", "train/rate_loss", "bottleneck/parameters"} <= metrics.keys()
    check_results(tmp_path, measured, images_of="val")
    assert (tmp_path / "sweep/trials/000/bottleneck.safetensors").is_file()


def check_export(checkpoint: Path, folder: Path) -> None:
    model = cast("CompressionModel", load_task(checkpoint).model)
    images = torch.randint(0, 256, (3, 3, 32, 32)) / 255  # what eight-bit files hold
    if isinstance(model, EarlyExitModel):
        file = export_early_exit(model, folder / "e.safetensors")
        net = split(backbone_of(checkpoint), model.net.at, (3, 32, 32))
        restored = EarlyExitModel(
            net,
            list(model.coder.quantizers),
            [codec.with_tables({}) for codec in model.coder.codecs],  # the file brings the tables
            normalize=model.normalize,
            weights=file,
        )
        restored.threshold = model.threshold
        assert restored.eval().compress(images) == model.compress(images)
    elif isinstance(model, SplitModel):
        again = load_bottleneck(export_bottleneck(model, folder / "b.safetensors"), backbone_of(checkpoint))
        assert again.compress(images) == model.compress(images)


def check_bank(checkpoint: Path, images: Path, folder: Path) -> None:
    bank(folder / "bank.safetensors", ckpt_path=checkpoint, data_root=images)
    again = load_bank(folder / "bank.safetensors", backbone_of(checkpoint))
    given, model = torch.randint(0, 256, (3, 3, 32, 32)) / 255, cast("GainModel", load_task(checkpoint).model)
    kept, made = ([of.at_rate(rate).compress(given) for rate in range(6)] for of in (again, model.bank()))
    assert sorted(kept) == sorted(made)  # a bank's rates are in ascending order of bytes


def backbone_of(checkpoint: Path) -> nn.Module:
    """Build the network that a checkpoint's config names, as `splitlearn export`'s users would."""
    model = read_checkpoint(checkpoint)[CONFIG_KEY]["model"]["init_args"]["model"]["init_args"]
    settings = model.get("model", {}).get("init_args", model)["net"]["init_args"]  # perhaps in a `GainModel`
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network")
    network: nn.Module = parser.instantiate(parser.parse_object({"network": settings["model"]})).network
    return network
