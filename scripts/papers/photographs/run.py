r"""Rebuild docs/results/photographs: bottlenecks trained on photographs without labels, against pictures.

MobileNetV2 cut at `features.6`, with a linear classifier for Caltech-101 on the frozen network, and with its own for a
sample of ImageNet; YOLOv8n cut at `model.4`; ResNet-20 cut at `layer2`. Trained weights that the project ships are
measured; others are trained first. Finished trainings and points are kept in runs/photographs/study, and a killed run
goes on.

    scripts/papers/photographs/run --caltech101 FOLDER --mobilenet FILE --imagenet FOLDER --coco FOLDER --yolo FILE \
        --cifar10 FOLDER

caltech101: train/<class>/ and test/<class>/, 100 classes, whose photographs in train/ train the bottlenecks of
MobileNetV2, without their labels; mobilenet: TensorFlow's MobileNetV2 as safetensors; imagenet: with labels.csv; coco:
images and labels in YOLO's format; cifar10: train/<class>/ and test/<class>/. Training a bottleneck of MobileNetV2 in
both stages takes half an hour on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from scripts.papers.common.rate_study import Points, Study, prepare
from scripts.papers.photographs.cases import add_folders, cases
from scripts.papers.photographs.costs import measure_costs
from scripts.papers.photographs.pictures import QUALITIES, TABLES_KNOWN, BareJpeg, bytes_of
from scripts.papers.photographs.report import CLIPPED, MIN_MAX, clipped_behind, report
from scripts.papers.photographs.trainings import RUNS, Case, Training
from splitlearn.analysis import RatePoint
from splitlearn.codecs import ContextRANS, ImageFile, RunLength
from splitlearn.deploy import CalibrationSettings, calibrate, load_bottleneck
from splitlearn.quantizers import MinMax

OUT = Path("docs/results/photographs")
BITS = (3, 4, 5, 6)
LEVELS = (4, 6, 8, 10)
FAR_LEVELS = (2, 3, *LEVELS)  # few features are left far behind, and a few levels of them suffice
STRETCHES = (1.0, 1.3, 1.7, 2.2)
ADVICE_WEIGHT = 0.05  # nats that a bit per element is worth where clipping limits are chosen


def measure(case: Case) -> None:
    """Measure all points of a case that are not there yet; trainings come last, since they take longest."""
    points = Points(RUNS / f"{case.subject.slug}_points", case.subject)
    formats = [format for format in QUALITIES if format != "HEIC" or case.subject.hevc]
    for format in formats:
        for quality in QUALITIES[format]:
            points.add(f"{format}_{quality}", partial(jpeg if format == "JPEG" else picture, format, quality))
    for bits in BITS:
        points.add(f"min_max_{bits}", partial(min_max, bits))
    for levels in LEVELS:
        points.add(f"clipped_{levels}", partial(clipped, levels))
    for levels in FAR_LEVELS if case.far else ():
        points.add(f"clipped_far_{levels}", partial(clipped_far, case, levels))
    for training in case.trainings:
        points.add(training.name, partial(trained, training))


def picture(format: str, quality: int, study: Study) -> list[RatePoint]:
    """The image itself as a file, sent to the whole network."""
    return study.end_to_end(format, f"quality {quality}", study.input_model(ImageFile(format, quality)))


def jpeg(format: str, quality: int, study: Study) -> list[RatePoint]:
    """The same as JPEG, with and without what all files of one size and quality share; the pixels are equal."""
    (whole,) = picture(format, quality, study)
    codec = BareJpeg(quality, study.model.net.input_shape[-1])
    sizes = [len(codec.encode(image)) for batch in study.pictures() for image in bytes_of(batch)]
    size = sum(sizes) / len(sizes)
    less = size / whole.bytes_per_image
    bare = replace(whole, method=TABLES_KNOWN, bytes_per_image=size)
    return [whole, replace(bare, bits_per_element=less * whole.bits_per_element)]


def min_max(bits: int, study: Study) -> list[RatePoint]:
    """Nothing trained: Carra & Neglia 2023."""
    quantizers = [MinMax(bits)]
    return study.points(MIN_MAX, f"{bits} bits", quantizers, {"run-length": [RunLength()]})


def clipped(levels: int, study: Study) -> list[RatePoint]:
    """Nothing trained: limits and tables calibrated on photographs."""
    settings = CalibrationSettings(levels, stretches=STRETCHES, rate_weight=ADVICE_WEIGHT, codec=ContextRANS())
    found = calibrate(study.model, study.calibration, settings).model.coder
    return study.points(CLIPPED, f"{levels} levels", found.quantizers, {"ContextRANS": found.codecs})


def clipped_far(case: Case, levels: int, study: Study) -> list[RatePoint]:
    """The same at a cut far behind: few features are left to send, and most of the network runs on the device."""
    method = clipped_behind(str(case.far))
    return [replace(point, method=method) for point in clipped(levels, prepared(case.far_subject))]


prepared = cache(prepare)


def trained(training: Training, study: Study) -> list[RatePoint]:
    """A trained bottleneck, image by image through its payloads."""
    model = load_bottleneck(training.bottleneck(), study.model.net.network())
    found = study.end_to_end(training.unit.method, training.setting, model)
    return [replace(point, codec="RANS", table_bytes=model.table_bytes or 0) for point in found]


def main() -> None:
    """Measure what is missing, and write page, JSON, CSV and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folders(parser)
    parser.add_argument("--page", action="store_true", help="write what has been measured, and measure nothing")
    options = parser.parse_args()
    found = list(cases(options))
    for case in () if options.page else found:
        measure(case)
        measure_costs(case)
    report(found, RUNS, OUT)
