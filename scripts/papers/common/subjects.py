"""The networks and data that the runs of carra2023 and cohen2020 measure, from folders on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scripts.papers.common.rate_study import Subject, run_all

PUBLISHED = {
    "VGG16 features.9": ("configs/carra2023/vgg16.yaml", "features.9"),
    "VGG16 features.16": ("configs/carra2023/vgg16.yaml", "features.16"),
    "ResNet-50 maxpool": ("configs/carra2023/resnet50.yaml", "maxpool"),
    "ResNet-50 layer2.0": ("configs/carra2023/resnet50.yaml", "layer2.0"),
    "ResNet-152 layer3.0": ("configs/carra2023/resnet152.yaml", "layer3.0"),
    "MobileNetV2 features.6": ("configs/carra2023/mobilenet_v2.yaml", "features.6"),
}
AT = "--model.model.net.at"
NETWORK = "--model.model.net.model"


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add the options that name data and weights; a network whose folder is not named is left out."""
    parser.add_argument("--cifar10", type=Path, help="train/<class>/*.jpg and test/<class>/*.jpg: ResNet-20 and -32")
    parser.add_argument(
        "--imagenet",
        type=Path,
        help="ILSVRC 2012, val/<wnid>/*: the paper's networks; or labels.csv: MobileNetV2 alone",
    )
    parser.add_argument("--mobilenet", type=Path, help="TensorFlow's MobileNetV2 as safetensors, with labels.csv")
    parser.add_argument("--photos", type=Path, help="any photographs to calibrate MobileNetV2 with, beside labels.csv")
    parser.add_argument("--coco", type=Path, help="images/{train,val}2017 and labels/val2017 in YOLO's format: YOLOv8n")
    parser.add_argument("--yolo", default="pretrained", help="weights of YOLOv8n; by default downloaded")
    parser.add_argument("--only", default="", help="only networks whose name holds this")


def subjects(options: argparse.Namespace) -> list[Subject]:
    """Return what the named folders allow to measure, longest runs first."""
    found: list[Subject] = []
    words: tuple[str, ...]
    if options.coco:
        photos = options.coco / "images" / "train2017"
        words = (f"{NETWORK}.weights", str(options.yolo))
        config = "configs/carra2023/yolov8n_model4.yaml"
        found.append(Subject("YOLOv8n model.4", config, words, options.coco, photos, 24, slope=0.1))  # SiLU
    if options.cifar10:
        photos = options.cifar10 / "train"
        for name, config in (
            ("ResNet-32", "configs/carra2023/resnet32.yaml"),
            ("ResNet-20", "configs/carra2023/resnet20_layer2.yaml"),
        ):
            for cut in ("layer1", "layer2"):
                once = (name, cut) == ("ResNet-32", "layer2")
                subject = Subject(f"{name} {cut}", config, (AT, cut), options.cifar10, photos, 256)
                found.append(replace(subject, image_files=once, hevc=once))
    if options.imagenet and (options.imagenet / "labels.csv").is_file():
        if not options.photos or not options.mobilenet:
            raise SystemExit(
                "labels.csv lists test images: name --photos to calibrate with, and weights by --mobilenet"
            )
        network = NETWORK, "splitlearn.models.mobilenet_v2_same", f"{NETWORK}.weights", str(options.mobilenet)
        words = (*network, "--data", "splitlearn.data.LabelledImages")
        config = "configs/carra2023/mobilenet_v2.yaml"
        found.append(Subject("MobileNetV2 features.6", config, words, options.imagenet, options.photos, 256, slope=1.0))
    elif options.imagenet:
        for name, (config, cut) in PUBLISHED.items():
            photos = options.imagenet / "train"
            slope = 1.0 if "MobileNet" in name else 0.0  # its blocks end without an activation
            found.append(Subject(name, config, (AT, cut), options.imagenet, photos, 256, slope))
    return found


def measure_all(
    parser: argparse.ArgumentParser, measure: Callable[[Subject], None], runs: Path, left_out: str | None = None
) -> tuple[list[Subject], argparse.Namespace]:
    """Measure what is missing; return the subjects of which there are points, and the options.

    Args:
        parser: of the script's own options.
        measure: makes the points of one subject; several run at a time, in processes of their own.
        runs: folder with a folder of points for each subject.
        left_out: network that is not measured.
    """
    add_folders(parser)
    parser.add_argument("--workers", type=int, default=2, help="networks at a time, one thread each")
    options = parser.parse_args()
    found = [subject for subject in subjects(options) if left_out is None or left_out not in subject.name]
    if not found:
        parser.error("name a folder of data, e.g. --cifar10 FOLDER")
    run_all(measure, [each for each in found if options.only.lower() in each.name.lower()], options.workers)
    return [each for each in found if (runs / each.slug / "unsplit.json").is_file()], options
