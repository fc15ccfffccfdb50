r"""Rebuild docs/results/carra2023: Tables I–II and Figs. 1–7 of Carra & Neglia 2023 on the data at hand.

Sizes at all of the paper's cuts need no data. Accuracy and bytes against bits (Figs. 5–7) and the statistics of
coefficients (Figs. 1–4) are measured on the networks whose data are named. Finished points are kept in runs/carra2023,
and a killed run goes on.

    scripts/papers/carra2023/run --cifar10 FOLDER --imagenet FOLDER --mobilenet FILE --photos FOLDER --coco FOLDER \
      --yolo FILE --video FILE

An hour on two cores for 10,000 CIFAR, 500 ImageNet and 128 COCO images. `--imagenet FOLDER` with val/<wnid>/ and
`--yolo pretrained` take the paper's own networks with downloaded weights; on all of ImageNet one point of ResNet-50
takes an hour and a half a core, and there are 21 of them: use --only, or a machine with many cores and --workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scripts.papers.carra2023.report import report
from scripts.papers.common.rate_study import Points, Study, Subject
from scripts.papers.common.subjects import measure_all
from splitlearn.analysis import RatePoint
from splitlearn.codecs import Codec, ContextRANS, Deflate, Huffman, RunLength
from splitlearn.models import ImageFile
from splitlearn.quantizers import MinMax

RUNS = Path("runs/carra2023")
OUT = Path("docs/results/carra2023")
BITS = range(2, 9)
FILES = {"JPEG": (25, 50, 75, 90), "WebP": (25, 50, 75, 90), "AVIF": (25, 50), "JPEG2000": (30, 36), "HEIC": (25, 45)}


def measure(subject: Subject) -> None:
    """Measure all points of a subject that are not there yet."""
    points = Points(RUNS / subject.slug, subject)
    for n in BITS:
        points.add(f"min_max_{n}", partial(min_max, bits=n))
    for format, qualities in FILES.items() if subject.image_files else ():
        for quality in qualities:
            points.add(f"{format}_{quality}", partial(image_file, format=format, quality=quality))


def min_max(study: Study, bits: int) -> list[RatePoint]:
    """The paper's quantizer, in its code and in others."""
    quantizers = [MinMax(bits) for _ in study.model.coder.quantizers]
    count = len(quantizers)
    codecs: dict[str, Sequence[Codec]] = {
        "zlib-6": [Deflate(6)] * count,
        "run-length": [RunLength()] * count,
        "Huffman": [Huffman()] * count,
        "ContextRANS": study.fitted(ContextRANS(), quantizers),
    }
    return study.points("min–max", f"{bits} bits", quantizers, codecs)


def image_file(study: Study, format: str, quality: int) -> list[RatePoint]:
    """The image itself, sent to the whole network."""
    setting = f"{quality} dB" if format == "JPEG2000" else f"quality {quality}"
    return study.end_to_end(format, setting, study.input_model(ImageFile(format, quality)))


def main() -> None:
    """Measure what is missing, and write tables, CSV and plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--video", type=Path, help="a video of a still camera, for Fig. 3; needs the extra video")
    found, options = measure_all(parser, measure, RUNS)
    report(found, RUNS, OUT, options.video)
