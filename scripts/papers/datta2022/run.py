"""Rebuild docs/results/datta2022: random searches over bottlenecks of frozen networks, the paper's recipe and ours.

Each section is a network at two cuts. Both recipes draw as many trials from the same cuts, channels and strides, and
train each as long, from the same cached features. Images held out from training choose the frontiers, and only what is
on them is then scored on the test images. Beside them stand methods without training, image files, and some points
of ours with the whole network trained along. Sections whose data are not named are neither run nor lost from the page.
What is finished is not run again: a killed run goes on where it was.

    scripts/papers/datta2022/run --cifar10 FOLDER --coco FOLDER --deeplab FILE --caltech101 FOLDER --mobilenet FILE
    scripts/papers/datta2022/run --page                       writes the page from what has been run, and runs nothing

cifar10: train/<class>/*.jpg and test/<class>/*.jpg: ResNet-20. coco: images/ and semantic_segmentation/masks/, each
with train2017/ and val2017/; deeplab: weights of DeepLabv3-MobileNetV2, beside deeplabv3_mobilenetv2.py, which holds
the network. caltech101: train/<class>/ and test/<class>/, 100 classes; mobilenet: TensorFlow's MobileNetV2.
On ImageNet: the launch lines of configs/datta2022/resnet50.yaml and splitlearn pareto.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.papers.common.config_rows import CARRA, JPEG, UNSPLIT, Row
from scripts.papers.datta2022.report import write
from scripts.papers.datta2022.searches import Search
from scripts.papers.datta2022.sections import CALTECH, CLASSES, DEEPLAB, DEEPLAB_CLASS, MASKS, RESNET, SECTIONS
from scripts.papers.photographs.cases import NETWORK, caltech_words

CONTEXT = ("--model.model.codec", "splitlearn.codecs.ContextRANS")
HEIC = ("--model.model.codec.format", "HEIC")
WHOLE = "--model.model.network"  # the network of an InputModel, which is sent image files
PLAIN = ("--model.rate_loss", "null", "--model.distillation", "null", "--trainer.callbacks", "null")
SIDE = 257  # of the images that DeepLab sees: 16·k + 1
PAIRS = (("coco", "deeplab"), ("caltech101", "mobilenet"))  # options that need each other
MASKED = ("images", "semantic_segmentation/masks")
FOLDERS = {  # inside those of options
    "cifar10": ("train", "test"),
    "coco": tuple(f"{kind}/{part}2017" for kind in MASKED for part in ("train", "val")),
    "caltech101": ("train", "test"),
}
QUALITIES = {RESNET.slug: (75, 50, 25), MASKS.slug: (50, 20, 5), CALTECH.slug: (50, 20, 5)}


def image_files(slug: str, configs: tuple[str, ...], options: tuple[str, ...]) -> Iterator[Row]:
    """Yield the whole network on pixels, then on JPEG and HEIC files; the words set an `InputModel`."""
    yield Row("unsplit", "raw pixels", configs, options)
    for quality in QUALITIES[slug]:
        file = (*options, *JPEG, str(quality))
        yield Row("JPEG", f"quality {quality}", configs, file)
        yield Row("HEIC", f"quality {quality}", configs, (*file, *HEIC))


def resnet20(options: argparse.Namespace) -> Search:
    """Return the search over ResNet-20."""
    beside = list(image_files(RESNET.slug, UNSPLIT, ()))
    for bits in (2, 3, 4):
        setting = "--model.model.quantizer.bits", str(bits)
        beside.append(Row("min–max + run-length", f"{bits} bits", CARRA, setting))
        beside.append(Row("min–max + ContextRANS", f"{bits} bits", CARRA, (*setting, *CONTEXT)))
    sizes = options.resnet_trials, options.resnet_epochs, 2, options.whole
    return Search(RESNET, options.cifar10, (), tuple(beside), *sizes)


def masks(options: argparse.Namespace) -> Search:
    """Return the search over DeepLabv3-MobileNetV2."""
    data = "--data.image_size", str(SIDE), "--data.val_size", str(options.masks_held_out), "--data.batch_size", "2"
    network = f"{NETWORK}.weights", str(options.deeplab), "--model.model.net.example", f"[3,{SIDE},{SIDE}]"
    whole = WHOLE, "splitlearn.models.backbone", f"{WHOLE}.name", DEEPLAB_CLASS
    words = ("--model.model", "splitlearn.models.InputModel", *whole, f"{WHOLE}.weights", str(options.deeplab))
    files = image_files(MASKS.slug, MASKS.paper.configs[:1], (*words, *PLAIN, *data))
    return Search(
        MASKS, options.coco, (*network, *data), tuple(files), options.masks_trials, options.masks_epochs, options.views
    )


def caltech101(options: argparse.Namespace) -> Search:
    """Return the search over MobileNetV2 with a linear classifier."""
    sizes = {"image_size": 224, "resize": 256, "val_size": options.caltech_held_out, "batch_size": 16}
    data = ["--model.num_classes", str(CLASSES), "--data", "splitlearn.data.ImageFolder"]
    data += [word for name, value in sizes.items() for word in (f"--data.{name}", str(value))]
    network = caltech_words(options.mobilenet, options.caltech101)
    whole = (word.replace(NETWORK, WHOLE) for word in network)
    words = ("--model.model", "splitlearn.models.InputModel", *whole, *data)
    settings = (*network, *data, "--data.smallest_crop", "0.35")
    files = image_files(CALTECH.slug, CALTECH.paper.configs[:1], words)
    trials, epochs = options.caltech_trials, options.caltech_epochs
    return Search(CALTECH, options.caltech101, settings, tuple(files), trials, epochs, options.views)


def searches(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[Search]:
    """Yield what the named folders and files allow to run; ends the script if one is missing."""
    check(options, parser)
    if options.cifar10:
        yield resnet20(options)
    if options.coco:
        folder = str(options.deeplab.absolute().parent)
        sys.path.append(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), folder]))
        yield masks(options)
    if options.caltech101:
        yield caltech101(options)


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """End the script with a sentence if a folder or file is missing, or named without what belongs to it."""
    for pair in PAIRS:
        named = [name for name in pair if getattr(options, name)]
        if len(named) == 1:
            (other,) = set(pair) - {*named}
            parser.error(f"--{named[0]} needs --{other} beside it")
    for name, inside in FOLDERS.items():
        root = getattr(options, name)
        if root and (absent := [part for part in inside if not (root / part).is_dir()]):
            parser.error(f"--{name} {root}: there is no folder {root / absent[0]}")
    for name in ("deeplab", "mobilenet"):
        file = getattr(options, name)
        if file and not file.is_file():
            parser.error(f"--{name} {file}: there is no such file")
    if options.deeplab and not (module := options.deeplab.parent / f"{DEEPLAB}.py").is_file():
        parser.error(f"--deeplab {options.deeplab}: there is no {module}, which holds the network")


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as files")
    parser.add_argument("--coco", type=Path, help="images and masks of COCO, with --deeplab")
    parser.add_argument("--deeplab", type=Path, help="weights, beside the network's file")
    parser.add_argument("--caltech101", type=Path, help="photographs in 100 classes, with --mobilenet")
    parser.add_argument("--mobilenet", type=Path, help="weights, TensorFlow's padding")
    for name, trials, epochs in (("resnet", 48, 3), ("masks", 16, 20), ("caltech", 16, 12)):
        parser.add_argument(f"--{name}-trials", type=int, default=trials, help=f"of each recipe; default {trials}")
        parser.add_argument(f"--{name}-epochs", type=int, default=epochs, help=f"of each trial; default {epochs}")
    parser.add_argument("--masks-held-out", type=int, default=30, help="images that choose; default 30")
    parser.add_argument("--caltech-held-out", type=int, default=2000, help="photographs that choose; default 2000")
    parser.add_argument("--views", type=int, default=4, help="random crops of each image or photograph; default 4")
    parser.add_argument("--whole", type=int, default=2, help="points a cut of ResNet-20 to train whole; default 2")
    parser.add_argument("--workers", type=int, default=1, help="processes of a sweep, one thread each; default 1")
    parser.add_argument("--group", type=int, help="trials that train together; by default as many as fit into memory")
    parser.add_argument("--runs", type=Path, default=Path("runs/datta2022"), help="folder that keeps what is finished")
    parser.add_argument("--out", type=Path, default=Path("docs/results/datta2022"), help="folder of the page")
    parser.add_argument("--page", action="store_true", help="write the page, and run nothing")
    return parser


def main() -> None:
    """Run what has not been run, and write the page after each section."""
    parser = arguments()
    options = parser.parse_args()
    several = list(searches(options, parser))
    if not several and not options.page:
        parser.error("name a folder of data, e.g. --cifar10 FOLDER, or --page")
    for search in () if options.page else several:
        search.run(options.runs, options.workers, options.group)
        write(options.runs, SECTIONS, options.out)
    if options.page:
        write(options.runs, SECTIONS, options.out)
