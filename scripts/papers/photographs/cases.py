"""The networks that scripts/papers/photographs measures, from folders on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from scripts.papers.common.rate_study import Subject
from scripts.papers.common.runs import Run
from scripts.papers.photographs.trainings import CONFIGS, RUNS, SHIPPED, Case, Unit
from splitlearn.data.finding import find_images

ACCURACY, PRECISION = "top-1 accuracy (%)", "mAP50–95 (%)"
NETWORK = "--model.model.net.model"
MOBILENET = "splitlearn.models.mobilenet_v2_same"
CLASSIFIER = SHIPPED / "caltech101_classifier.safetensors"
HELD_OUT = ("--data.val_size", "300")  # on which the rates were chosen
BEHIND, FROM_PIXELS = "trained behind features.6", "trained from pixels"
HEAD, PIXELS = ("mobilenet_v2.yaml",), ("mobilenet_v2_pixels.yaml",)


def behind(number: int, rate_weight: float, *begins: tuple[float, int]) -> Unit:
    """Return the unit of a cut further behind, which begins at the rate of its first stage."""
    name, method = f"mobilenet_v2_features{number}", f"trained behind features.{number}"
    configs = (*HEAD, f"behind_features{number}.yaml")
    return Unit(name, method, configs, (rate_weight,), begins, 1600, HELD_OUT)


WIDE = ("--model.model.bottleneck.channels", "128", "--model.model.bottleneck.width", "160")
LAST = Unit(
    "mobilenet_v2_features14_wide",
    "trained behind features.14, 128 channels",
    (*HEAD, "behind_features14.yaml"),
    (0.05, 0.08),
    ((0.015, 2500),),
    1600,
    (*HELD_OUT, *WIDE),
)
CALTECH_UNITS = (
    Unit("mobilenet_v2", BEHIND, HEAD, (0.06, 0.1)),
    behind(10, 0.06, (0.06, 2000)),
    behind(14, 0.06, (0.06, 2000)),
    behind(14, 0.015, (0.06, 2000), (0.015, 1000)),
    behind(14, 0.004, (0.06, 2000), (0.015, 1000), (0.004, 1000)),
    LAST,
    Unit("mobilenet_v2_pixels", FROM_PIXELS, PIXELS, (0.02, 0.05), ((0.06, 2400),), 1200, HELD_OUT),
)
IMAGENET_WIDE = Unit(
    "mobilenet_v2_features14_wide",
    "trained behind features.14, 160 channels",
    (*HEAD, "behind_features14.yaml"),
    (0.02,),
    ((0.01, 2500),),
    1600,
    (*HELD_OUT, "--model.model.bottleneck.channels", "160", "--model.model.bottleneck.width", "160"),
)
FAR = "features.16"  # chosen by the agreement of 300 held-out photographs of Caltech-101, among features.14 to 16
IMAGENET_UNITS = (Unit("mobilenet_v2", BEHIND, HEAD, (0.03, 0.1)), IMAGENET_WIDE)
FEW = ("--data.val_size", "20", "--data.test_size", "8", "--data.batch_size", "4")  # of 128 photographs
YOLO_BEGINS = ((0.02, 2000), (0.005, 1600))
YOLO_WIDE = Unit(
    "yolov8n_wide",
    "trained behind model.4, 128 channels",
    ("yolov8n.yaml",),
    (0.02,),
    ((0.02, 2500),),
    900,
    (*FEW, "--model.model.bottleneck.channels", "128"),
)
YOLO_UNITS = (
    Unit("yolov8n", "trained behind model.4", ("yolov8n.yaml",), (0.005,), YOLO_BEGINS, 800, FEW),
    YOLO_WIDE,
)
CIFAR_UNITS = (Unit("resnet20", "trained behind layer2", ("resnet20.yaml",), (0.03, 0.1, 0.3)),)
CALTECH = (
    "1,714 test images of Caltech-101 in 100 classes, which a linear classifier on the frozen network tells apart "
    "(configs/photographs/caltech101_classifier.yaml): standard error 0.7 points."
)
IMAGENET = "500 ImageNet images, probably seen in training by the network: standard error 1.6 points."
COCO = "128 images of COCO val2017, letterboxed to 640×640."
RIGHT = 0.88  # share of CIFAR-10's test images that ResNet-20 tells, for a standard error


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add the options that name data and weights."""
    parser.add_argument("--mobilenet", type=Path, help="TensorFlow's MobileNetV2 as safetensors, with --caltech101")
    parser.add_argument("--caltech101", type=Path, help="train/<class>/* and test/<class>/*, 100 classes")
    parser.add_argument("--imagenet", type=Path, help="test images beside labels.csv, with --mobilenet")
    parser.add_argument("--cifar10", type=Path, help="train/<class>/* and test/<class>/* of CIFAR-10: ResNet-20")
    parser.add_argument("--coco", type=Path, help="images/{train,val}2017 and labels/val2017 in YOLO's format: YOLOv8n")
    parser.add_argument("--yolo", default="pretrained", help="weights of YOLOv8n; by default downloaded")


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield what the named folders allow to measure; raises SystemExit if a folder is missing that belongs to it."""
    if options.mobilenet:
        if not options.caltech101:
            raise SystemExit("name --caltech101, whose photographs train the bottlenecks of MobileNetV2")
        yield from mobilenets(options.mobilenet, options.caltech101, options.imagenet)
    if options.coco:
        yield coco_case(options.coco, options.yolo)
    if options.cifar10:
        config, photos = "configs/carra2023/resnet20_layer2.yaml", options.cifar10 / "train"
        subject = Subject("CIFAR-10", config, (), options.cifar10, photos, hevc=False)
        count = len(find_images(options.cifar10 / "test"))
        error = 100 * math.sqrt(RIGHT * (1 - RIGHT) / count)
        told = f"{count:,} test images of CIFAR-10, kept as JPEG of quality 75: standard error {error:.1f} points."
        yield Case(subject, "ResNet-20, layer2", ACCURACY, told, (), photos, CIFAR_UNITS)


def coco_case(data: Path, weights: str | Path) -> Case:
    """Return YOLOv8n on images of COCO."""
    words, photos = (f"{NETWORK}.weights", str(weights)), data / "images/train2017"
    subject = Subject("COCO", "configs/carra2023/yolov8n_model4.yaml", words, data, photos, 24)
    return Case(subject, "YOLOv8n, model.4", PRECISION, COCO, words, photos, YOLO_UNITS)


def mobilenets(weights: Path, caltech: Path, imagenet: Path | None) -> Iterator[Case]:
    """Yield MobileNetV2 for Caltech-101, whose classifier is trained if it is absent, and for a sample of ImageNet."""
    config, photos = "configs/carra2023/mobilenet_v2.yaml", caltech / "train"
    words = caltech_words(weights, caltech)
    folder = ("--data", "splitlearn.data.ImageFolder", "--data.image_size", "224", "--data.resize", "256")
    overrides = (*words, "--model.num_classes", "100", *folder)
    subject = Subject("Caltech-101", config, overrides, caltech, photos)
    title = "MobileNetV2"
    yield Case(subject, title, ACCURACY, CALTECH, words, photos, CALTECH_UNITS, FAR)
    if imagenet:
        words = network_words(weights)
        overrides = (*words, "--data", "splitlearn.data.LabelledImages")
        subject = Subject("ImageNet sample", config, overrides, imagenet, photos)
        yield Case(subject, title, ACCURACY, IMAGENET, words, photos, IMAGENET_UNITS, FAR)


def network_words(weights: Path, at: str = NETWORK) -> tuple[str, ...]:
    """Return the words that set MobileNetV2 with TensorFlow's padding."""
    return at, MOBILENET, f"{at}.weights", str(weights)


def caltech_words(weights: Path, data: Path) -> tuple[str, ...]:
    """Return the words that set MobileNetV2 with a linear classifier for Caltech-101, trained first if it is absent."""
    inner = network_words(weights, f"{NETWORK}.model")
    layer = {"in_features": 1280, "out_features": 100}
    by = (word for name, value in layer.items() for word in (f"{NETWORK}.by.{name}", str(value)))
    place = (f"{NETWORK}.at", "classifier.1", f"{NETWORK}.by", "torch.nn.Linear", *by)
    classifier = str(caltech_classifier(weights, data))
    return NETWORK, "splitlearn.models.replaced", *inner, *place, f"{NETWORK}.weights", classifier


def caltech_classifier(weights: Path, data: Path) -> Path:
    """Return weights of the linear classifier: the shipped ones, or those of a training."""
    if CLASSIFIER.is_file():
        return CLASSIFIER
    words = network_words(weights, "--model.model.network.model.model")
    run = Run(RUNS / CLASSIFIER.stem, (f"{CONFIGS}/{CLASSIFIER.stem}.yaml",), words)
    run.export(str(data))
    return run.folder / "network.safetensors"
