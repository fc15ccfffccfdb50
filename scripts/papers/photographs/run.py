r"""Rebuild docs/results/photographs: bottlenecks trained on photographs without labels, against pictures.

MobileNetV2 cut at `features.6`, with a linear classifier for Caltech-101 on the frozen network, and with its own for a
sample of ImageNet. Finished trainings and points are kept in runs/photographs/study, and a killed run goes on.

    scripts/papers/photographs/run --mobilenet FILE --caltech101 FOLDER --imagenet FOLDER

FILE: TensorFlow's MobileNetV2 as safetensors; caltech101: train/<class>/ and test/<class>/, 100 classes; imagenet: with
labels.csv. The photographs of caltech101/train train all bottlenecks, without their labels. A training of both stages
takes half an hour on one core, the first stage once for all; there are three for each set of test images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.papers.common.rate_study import Points, Study, Subject
from scripts.papers.photographs.costs import measure_costs
from scripts.papers.photographs.pictures import BareJpeg
from scripts.papers.photographs.report import report
from scripts.papers.photographs.trainings import (
    RATE_WEIGHTS,
    RUNS,
    Training,
    caltech_network,
    network_words,
)
from splitlearn.analysis import RatePoint
from splitlearn.codecs import ContextRANS, ImageCodec, ImageFile, RunLength
from splitlearn.deploy import CalibrationSettings, calibrate, load_bottleneck
from splitlearn.quantizers import MinMax

OUT = Path("docs/results/photographs")
CONFIG = "configs/carra2023/mobilenet_v2.yaml"
BITS = (3, 4, 5, 6)
LEVELS = (4, 6, 8, 10)
STRETCHES = (1.0, 1.3, 1.7, 2.2)
ADVICE_WEIGHT = 0.05  # nats that a bit per element is worth where clipping limits are chosen
QUALITIES = {
    "JPEG": (10, 20, 30, 45, 60, 75),
    "WebP": (2, 5, 15, 30, 50, 70),
    "AVIF": (15, 25, 35, 45, 55, 65),
    "HEIC": (15, 25, 35, 45, 55, 65),
}


def measure(subject: Subject, trainings: Sequence[Training]) -> None:
    """Measure all points of a subject that are not there yet; trainings come last, since they take longest."""
    points = Points(RUNS / f"{subject.slug}_points", subject)
    for format, qualities in QUALITIES.items():
        for quality in qualities:
            points.add(f"{format}_{quality}", partial(picture, format, quality, ImageFile(format, quality)))
    for quality in QUALITIES["JPEG"]:
        points.add(f"bare_JPEG_{quality}", partial(picture, "JPEG, tables known", quality, BareJpeg(quality)))
    for bits in BITS:
        points.add(f"min_max_{bits}", partial(min_max, bits))
    for levels in LEVELS:
        points.add(f"clipped_{levels}", partial(clipped, levels))
    for training in trainings:
        points.add(f"trained_{training.rate_weight:g}", partial(trained, training))


def picture(format: str, quality: int, codec: ImageCodec, study: Study) -> list[RatePoint]:
    """The image itself, sent to the whole network."""
    return study.end_to_end(format, f"quality {quality}", study.input_model(codec))


def min_max(bits: int, study: Study) -> list[RatePoint]:
    """Nothing trained: Carra & Neglia 2023."""
    quantizers = [MinMax(bits)]
    return study.points("min–max", f"{bits} bits", quantizers, {"run-length": [RunLength()]})


def clipped(levels: int, study: Study) -> list[RatePoint]:
    """Nothing trained: limits and tables calibrated on photographs."""
    settings = CalibrationSettings(levels, stretches=STRETCHES, rate_weight=ADVICE_WEIGHT, codec=ContextRANS())
    found = calibrate(study.model, study.calibration, settings).model.coder
    return study.points("clipped", f"{levels} levels", found.quantizers, {"ContextRANS": found.codecs})


def trained(training: Training, study: Study) -> list[RatePoint]:
    """A trained bottleneck, image by image through its payloads."""
    model = load_bottleneck(training.bottleneck(), study.model.net.network())
    found = study.end_to_end("trained on photographs", f"λ = {training.rate_weight:g}", model)
    return [replace(point, codec="RANS", table_bytes=model.table_bytes or 0) for point in found]


def main() -> None:
    """Measure what is missing, and write page, JSON, CSV and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mobilenet", type=Path, required=True, help="TensorFlow's MobileNetV2 as safetensors")
    parser.add_argument("--caltech101", type=Path, required=True, help="train/<class>/* and test/<class>/*")
    parser.add_argument("--imagenet", type=Path, help="test images beside labels.csv")
    options = parser.parse_args()
    photos = options.caltech101 / "train"
    own = network_words(caltech_network(options.mobilenet, options.caltech101), 100)
    folder = ("--data", "splitlearn.data.ImageFolder", "--data.image_size", "224", "--data.resize", "256")
    classes = ("--model.num_classes", "100")
    found = {Subject("Caltech-101", CONFIG, (*own, *classes, *folder), options.caltech101, photos): own}
    if options.imagenet:
        words = network_words(options.mobilenet, 1000)
        sample = ("--data", "splitlearn.data.LabelledImages")
        found[Subject("ImageNet sample", CONFIG, (*words, *sample), options.imagenet, photos)] = words
    for subject, words in found.items():
        trainings = [Training(subject, weight, words, photos) for weight in RATE_WEIGHTS]
        measure(subject, trainings)
        measure_costs(subject, trainings)
    report(list(found), RUNS, OUT)
