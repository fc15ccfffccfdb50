"""Split R-CNN detectors, their teachers and students run a step on generated data."""

import json
from pathlib import Path
from typing import Any

import pytest

from splitlearn.commands.export import export
from splitlearn.config.loading import load_task
from splitlearn.deploy import load_bottleneck
from splitlearn.models import load_weights, replaced
from tests.configs.runs import CONFIGS, RCNNS, Measured, each, name, run

SENT = [p for p in RCNNS if "DetectionTask" in p.read_text()]
TAUGHT = {  # and what their training leaves
    CONFIGS / f"matsubara2020/{stem}.yaml": file
    for stem, file in (
        ("pennfudan_teacher", "network"),
        ("pennfudan_student", "student"),
        ("coco_student", "student"),
        ("resnet50_student", "student"),
        ("resnet20_student", "bottleneck"),
    )
}
SMALL_RCNN = "init_args: {weights: null, min_size: 64, max_size: 96, pyramid: 16, box_width: 32, proposals: 20}"
SMALL_STUDENT = (
    f"net: {{init_args: {{example: [3, 64, 80], model: {{init_args: {{weights: null, model: {{{SMALL_RCNN}}}}}}}}}}}"
)


@pytest.mark.parametrize("masks", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", SENT, ids=name)
def test_rcnn_is_measured_on_images_of_several_sizes(
    path: Path, masks: bool, tmp_path: Path, object_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its head says, with masks too."""
    inner = SMALL_STUDENT if path.stem.endswith("split") else f"network: {{{SMALL_RCNN}}}"
    small = tmp_path / "small.yaml"
    small.write_text(
        f"model: {{init_args: {{model: {{init_args: {{{inner}}}}}}}}}\ndata: {{init_args: {{batch_size: 3}}}}\n"
    )
    options = ["--config", str(small)]
    if path.stem.startswith("pennfudan"):
        options += ["--data.test_size", "3"]
    if masks:
        text = small.read_text().replace(SMALL_RCNN, f"class_path: splitlearn.models.mask_rcnn, {SMALL_RCNN}")
        small.write_text(text)
        options += ["--model.masks", "true"] + ([] if path.stem.startswith("pennfudan") else ["--data.masks", "true"])
    run(monkeypatch, "test", path, tmp_path, object_folder, *options)
    results = json.loads(next(tmp_path.rglob("results.json")).read_text())
    names = {"test/map", "test/map_50"} | ({"test/map_masks", "test/map_masks_50"} if masks else set())
    assert all(0 <= results[key] <= 1 for key in names)
    sizes = [len(payload) for model, batch in measured for payload in model.compress(batch)]
    images = [image for _, batch in measured for image in batch]
    assert len({tuple(image.shape) for image in images}) == len(sizes) >= 3
    assert results["test/bytes_per_image"] == pytest.approx(sum(sizes) / len(sizes))
    pixels = sum(image.shape[-2] * image.shape[-1] for image in images)
    assert results["test/bits_per_pixel"] == pytest.approx(8 * sum(sizes) / pixels)


@each(TAUGHT)
def test_teachers_and_students_train_and_are_exported(
    path: Path, tmp_path: Path, object_folder: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their heads say: each export is read again by what comes next."""
    small, images, options = tmp_path / "small.yaml", image_folder, ["--config", str(tmp_path / "small.yaml")]
    weightless, data = (
        "init_args: {name: torchvision/resnet18, weights: null}",
        "image_size: 32, resize: 32, batch_size: 4",
    )
    if "resnet" not in path.stem:
        images, options = object_folder, [*options, "--data.val_size", "1"]
        weightless = SMALL_RCNN.replace("weights: null", "weights: null, backbone_weights: null")
        data = "batch_size: 2, test_size: 1"
    if path.stem.startswith("coco"):
        data = "train_images: val2017, train_annotations: annotations/instances_val2017.json"
        weightless = weightless.replace("init_args: {", "init_args: {backbone: resnet18, ")
    narrow = "" if path.stem.startswith("pennfudan") else ", by: {init_args: {out_channels: 64}}"
    networks = f"teacher: {{{weightless}}}, model: {{init_args: {{model: {{{weightless}}}{narrow}}}}}"
    if path.stem.endswith("teacher"):
        networks = f"model: {{{weightless}}}"
    elif path.stem == "resnet20_student":
        networks, data = "rate_weight: 0.1", "batch_size: 8"
    small.write_text(f"model: {{init_args: {{{networks}}}}}\ndata: {{init_args: {{{data}}}}}\n")
    run(monkeypatch, "fit", path, tmp_path, images, *options)
    export(next(tmp_path.rglob("last.ckpt")), tmp_path, licence="none")
    file = tmp_path / f"{TAUGHT[path]}.safetensors"
    task: Any = load_task(next(tmp_path.rglob("last.ckpt")))
    if TAUGHT[path] == "student":
        replaced(task.model, task.trains[-1], task.model.get_submodule(task.trains[-1]), file)
    elif TAUGHT[path] == "network":
        load_weights(task.model, file)
    else:
        assert load_bottleneck(file, task.teacher).coder.bottlenecks[0].state_dict().keys()
