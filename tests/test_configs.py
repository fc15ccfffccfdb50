"""Every shipped config parses, runs a step on generated data, and its payloads are lossless."""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule
from PIL import Image
from torch import nn

from splitlearn.cli import main
from splitlearn.cli.sweep_trial import ConfigTrial
from splitlearn.data import DetectionDataModule, ImageFolder, ImageNet, ObjectsDataModule, SegmentationDataModule
from splitlearn.deploy import export_bottleneck, export_command, export_early_exit, load_bottleneck
from splitlearn.models import (
    CompressionModel,
    EarlyExitModel,
    SplitModel,
    TiledFeatures,
    load_weights,
    replaced,
    split,
)
from splitlearn.models.cutting.check import same
from splitlearn.sweep import Space
from splitlearn.tasks import load_task
from splitlearn.tasks.loading import CONFIG_KEY, read_checkpoint
from splitlearn.tasks.payload import PayloadTask

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PARTS = ("data", "spaces")  # folders of files that are no experiments
EXPERIMENTS = sorted(p for p in CONFIGS.rglob("*.yaml") if p.parent.name not in PARTS and p.name != "trainer.yaml")
RCNNS = [p for p in EXPERIMENTS if p.parent.name == "matsubara2020"]
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
DETECTORS = [p for p in EXPERIMENTS if "DetectionTask" in p.read_text() and p not in RCNNS]
SEGMENTERS = [p for p in EXPERIMENTS if "SegmentationTask" in p.read_text()]
DATTA = CONFIGS / "datta2022/resnet20_layer2.yaml"
STACKED = ("ours", "ours_factorized", "full_model")
BASE = {CONFIGS / "datta2022" / f"{stacked}.yaml": DATTA for stacked in STACKED}  # what is stacked on it
BASE |= {CONFIGS / f"datta2022/{net}.yaml": CONFIGS / f"carra2023/{net}.yaml" for net in ("resnet50", "mobilenet_v2")}
PUBLISHED = [
    p for p in EXPERIMENTS if "name: torchvision/" in BASE.get(p, p).read_text() and p not in [*RCNNS, *SEGMENTERS]
]
OWN = [
    p for p in EXPERIMENTS if p not in [*RCNNS, *DETECTORS, *SEGMENTERS, *PUBLISHED]
]  # weights and data of 32 pixels
SPACES = {  # and the configs that they are drawn over
    "quickstart": [CONFIGS / "quickstart.yaml"],
    "datta2022_classification": [CONFIGS / "carra2023/resnet50.yaml", CONFIGS / "datta2022/resnet50.yaml"],
    "datta2022_mobilenet_v2": [CONFIGS / "carra2023/mobilenet_v2.yaml", CONFIGS / "datta2022/mobilenet_v2.yaml"],
    "datta2022_segmentation": [CONFIGS / "datta2022/deeplabv3_resnet50.yaml"],
    "datta2022_cifar_paper": [DATTA],
    "datta2022_cifar_paper_coarse": [DATTA],
    "datta2022_cifar_ours": [DATTA, CONFIGS / "datta2022/ours_factorized.yaml"],
}
ONE_STEP = """
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  limit_test_batches: 1
  enable_progress_bar: false
"""

SMALL_DETECTOR = """
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 64, 64], model: {init_args: {weights: null}}}}}}}
data: {init_args: {image_size: 64, batch_size: 2}}
"""
SMALL_RCNN = "init_args: {weights: null, min_size: 64, max_size: 96, pyramid: 16, box_width: 32, proposals: 20}"
SMALL_STUDENT = (
    f"net: {{init_args: {{example: [3, 64, 80], model: {{init_args: {{weights: null, model: {{{SMALL_RCNN}}}}}}}}}}}"
)
SMALL_NETWORK = SMALL_DETECTOR.replace("image_size: 64", "image_size: 64, resize: 64")
SMALL_SEGMENTER = """
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 33, 33], model: {init_args: {weights: null}}}}}}}
data: {init_args: {image_size: 33, val_size: 2}}
"""
Measured = list[tuple[CompressionModel, Any]]  # images, or features in a sweep
LATER_STAGE = """
model: {init_args: {model: {init_args: {weights: null, net: {init_args: {model: {init_args: {weights: null}}}}}}}}
"""


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of small JPEG images, train/ and test/."""
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 4), ("test", 2)):
        for label in range(10):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                noise = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
                Image.fromarray(noise).save(folder / f"{i}.jpg")
    return root


@pytest.fixture(scope="session")
def box_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small JPEG images with a box each, in YOLO's layout."""
    root = tmp_path_factory.mktemp("boxes")
    for folder in ("images/val2017", "labels/val2017"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        noise = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).save(root / f"images/val2017/{i}.jpg")
        (root / f"labels/val2017/{i}.txt").write_text(f"{i} 0.5 0.5 0.2 0.4\n")
    return root


@pytest.fixture(scope="session")
def object_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small images of several sizes with a rectangle each, in Penn-Fudan's layout and in COCO's."""
    root = tmp_path_factory.mktemp("objects")
    for folder in ("PNGImages", "PedMasks", "val2017", "annotations"):
        (root / folder).mkdir()
    images, annotations = [], []
    for i, (height, width) in enumerate(((48, 64), (80, 50), (64, 64), (56, 40))):
        noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
        mask = torch.zeros(height, width, dtype=torch.uint8)
        mask[8:40, 10:30] = 1
        Image.fromarray(noise).save(root / f"PNGImages/{i}.png")
        Image.fromarray(mask.numpy()).save(root / f"PedMasks/{i}_mask.png")
        Image.fromarray(noise).save(root / f"val2017/{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "height": height, "width": width})
        box = {"bbox": [10, 8, 20, 32], "segmentation": [[10, 8, 30, 8, 30, 40, 10, 40]], "area": 640, "iscrowd": 0}
        annotations.append({"id": i + 1, "image_id": i, "category_id": 7, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "rectangle"}]}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Model and images of every test batch that a run measures."""
    found: Measured = []
    measure = PayloadTask.measured

    def note(task: PayloadTask, images: Any) -> object:
        found.append((task.model, images))
        return measure(task, images)

    monkeypatch.setattr(PayloadTask, "measured", note)
    return found


def run(monkeypatch: pytest.MonkeyPatch, command: str, path: Path, folder: Path, images: Path, *options: str) -> None:
    step = folder / "step.yaml"
    step.write_text(ONE_STEP)
    if "weights: runs/" in path.read_text() and path not in RCNNS:  # that an earlier stage leaves
        step.write_text(ONE_STEP + LATER_STAGE)
    stack = [CONFIGS / "trainer.yaml", *([BASE[path]] if path in BASE else []), path, step]
    words = [word for config in stack for word in ("--config", str(config))]
    if "digits" not in path.read_text():
        words += ["--data.root", str(images), "--data.val_size", "10"]
    place = ["--trainer.logger.save_dir", str(folder), "--trainer.logger.name", "run"]
    monkeypatch.chdir(ROOT)  # configs name weights relative to the project
    monkeypatch.setattr(sys, "argv", ["splitlearn", command, *words, *place, *options])
    assert main() == 0


def check_results(folder: Path, measured: Measured) -> None:
    """Check sizes and scores of a test run, and that its payloads carried what the quantizers had made."""
    results = json.loads(next(folder.rglob("results.json")).read_text())
    assert results["test/bytes_per_image"] > 9
    scores = [results[name] for name in ("test/accuracy", "test/miou", "test/pixel_accuracy") if name in results]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    model, images = measured[0]
    model.eval()
    if isinstance(model, EarlyExitModel):
        model.threshold = 1.0  # all are sent
    payloads = model.compress(images)
    assert len(payloads) == len(images)
    with torch.no_grad():
        lossless = not isinstance(model, TiledFeatures)  # HEVC loses more than its quantizer does
        assert same(model.decompress(payloads), model(images)) == lossless
        if isinstance(model, SplitModel):
            latents = zip(model.quantizers, model.run(images).latents, strict=True)
            sent = [quantizer(latent) for quantizer, latent in latents]
            assert all(map(torch.equal, model.latents_hat(payloads), sent))


@pytest.mark.parametrize("path", OWN, ids=name)
def test_experiment_runs_and_is_lossless(
    path: Path, tmp_path: Path, image_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.parent.name in ("carra2023", "cohen2020") or path.stem.startswith("bank_"):  # nothing to train
        run(monkeypatch, "test", path, tmp_path, image_folder)
    else:
        run(monkeypatch, "fit", path, tmp_path, image_folder)
        run(monkeypatch, "test", path, tmp_path, image_folder, "--ckpt_path", "last")
        if path.stem != "full_model":  # which has no bottleneck to export
            check_export(next(tmp_path.rglob("last.ckpt")), tmp_path)
    check_results(tmp_path, measured)


@pytest.mark.parametrize("path", PUBLISHED, ids=name)
def test_network_for_imagenet_runs_on_small_images(
    path: Path, tmp_path: Path, image_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_NETWORK)
    if path.parent.name == "datta2022":
        run(monkeypatch, "fit", path, tmp_path, image_folder, "--config", str(small))
    run(monkeypatch, "test", path, tmp_path, image_folder, "--config", str(small))
    check_results(tmp_path, measured)


def test_mobilenet_takes_weights_from_tensorflow(
    tmp_path: Path, image_folder: Path, shared_data: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL_NETWORK)
    weights = shared_data / "weights/mobilenet_v2_imagenet.safetensors"
    options = ["--config", str(small), "--model.model.net.model", "splitlearn.models.mobilenet_v2_same"]
    options += ["--model.model.net.model.weights", str(weights)]
    run(monkeypatch, "test", CONFIGS / "carra2023/mobilenet_v2.yaml", tmp_path, image_folder, *options)
    check_results(tmp_path, measured)


@pytest.mark.parametrize("path", DETECTORS, ids=name)
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
    assert table[0] == "image,class,name,score,left,top,right,bottom"


@pytest.mark.parametrize("masks", [False, True])
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


@pytest.mark.parametrize("path", TAUGHT, ids=name)
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
    export_command(next(tmp_path.rglob("last.ckpt")), tmp_path, None, "none")
    file = tmp_path / f"{TAUGHT[path]}.safetensors"
    task: Any = load_task(next(tmp_path.rglob("last.ckpt")))
    if TAUGHT[path] == "student":
        replaced(task.model, task.trains[-1], task.model.get_submodule(task.trains[-1]), file)
    elif TAUGHT[path] == "network":
        load_weights(task.model, file)
    else:
        assert load_bottleneck(file, task.teacher).bottlenecks[0].state_dict().keys()


@pytest.mark.parametrize("path", SEGMENTERS, ids=name)
def test_segmentation_trains_is_measured_and_exported(
    path: Path, tmp_path: Path, mask_folder: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """A trial of a sweep over the space of the paper, from cached features, on images of 33 pixels."""
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
    check_results(tmp_path, measured)
    assert (tmp_path / "sweep/trials/000/bottleneck.safetensors").is_file()


def check_export(checkpoint: Path, folder: Path) -> None:
    model = cast("CompressionModel", load_task(checkpoint).model)
    images = torch.randint(0, 256, (3, 3, 32, 32)) / 255  # what eight-bit files hold
    if isinstance(model, EarlyExitModel):
        file = export_early_exit(model, folder / "e.safetensors")
        net = split(backbone_of(checkpoint), model.net.at, (3, 32, 32))
        restored = EarlyExitModel(
            net,
            list(model.quantizers),
            [codec.with_tables({}) for codec in model.codecs],  # the file brings the tables
            normalize=model.normalize,
            weights=file,
        )
        restored.threshold = model.threshold
        assert restored.eval().compress(images) == model.compress(images)
    elif isinstance(model, SplitModel):
        again = load_bottleneck(export_bottleneck(model, folder / "b.safetensors"), backbone_of(checkpoint))
        assert again.compress(images) == model.compress(images)


def backbone_of(checkpoint: Path) -> nn.Module:
    """Build the network that a checkpoint's config names, as `splitlearn export`'s users would."""
    settings = read_checkpoint(checkpoint)[CONFIG_KEY]["model"]["init_args"]["model"]["init_args"]["net"]["init_args"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network")
    network: nn.Module = parser.instantiate(parser.parse_object({"network": settings["model"]})).network
    return network


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=name)
def test_data_config_builds(path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": yaml.safe_load(path.read_text())})).data
    if isinstance(data, DetectionDataModule):
        assert data.image_shape == (3, 640, 640)
        return
    if isinstance(data, ObjectsDataModule):
        assert data.batch_size >= 1
        return
    if isinstance(data, SegmentationDataModule):
        assert (data.image_shape, data.num_classes) == ((3, 513, 513), 21)
        return
    assert data.image_shape == ((3, 224, 224) if isinstance(data, ImageNet) else (3, 32, 32))
    if not isinstance(data, ImageFolder):  # whose classes are those of the folder
        assert data.num_classes == 10


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=name)
def test_config_is_a_short_document(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith("# ")
    if path in EXPERIMENTS:
        assert name(path) in (CONFIGS / "README.md").read_text()
        assert any("splitlearn " in line and line.startswith("#") for line in lines), "the launch line is missing"


@pytest.mark.parametrize("path", sorted((CONFIGS / "spaces").glob("*.yaml")), ids=name)
def test_spaces_fit_their_configs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = [w for config in (CONFIGS / "trainer.yaml", *SPACES[path.stem]) for w in ("--config", str(config))]
    trial = ConfigTrial(tuple(words), Path("out"), "sweep", None, "float16", 1)
    space = Space.read(path)
    for number in range(4):
        values = space.point(0, number)
        settings = trial.parse(values)
        found = str(settings.model.init_args.rate_weight)
        assert found == str(values["model.rate_weight"])
