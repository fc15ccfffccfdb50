r"""Rebuild docs/results/cohen2020: clipped quantizers without retraining, against min–max, HEVC and image files.

Accuracy against bits per element as in Cohen, Choi & Bajić 2020: clipping on and off, entropy-constrained levels on and
off, limits by measurement and by model, HEVC on the tiled features; and one step past it: limits chosen by predictions
on unlabelled images, for each channel or all together, with neighbours as context. Run carra2023 with the same
folders first: its min–max and image-file points stand beside. Finished points are kept in runs/, a killed run goes on.

    scripts/papers/cohen2020/run --cifar10 FOLDER --imagenet FOLDER --mobilenet FILE --photos FOLDER --coco FOLDER \
      --yolo FILE

An hour on two cores for 10,000 CIFAR, 500 ImageNet and 128 COCO images. On all of ImageNet one point of ResNet-50 takes
an hour and a half a core, and there are 35 a cut: use --only, or a machine with many cores and --workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from scripts.papers.cohen2020.report import CONSTRAINED, OURS, report
from scripts.papers.common.rate_study import Points, Study, Subject
from scripts.papers.common.subjects import measure_all
from splitlearn.analysis import RatePoint
from splitlearn.codecs import Codec, ContextRANS, Huffman, TruncatedUnary
from splitlearn.deploy import Calibration, CalibrationSettings, calibrate
from splitlearn.models import ImageFile, TiledFeatures
from splitlearn.quantizers import (
    Clipped,
    CodeLengths,
    IdealLengths,
    LaplaceLimits,
    LatentStatistics,
    LeastError,
    MinMax,
    TruncatedUnaryLengths,
    entropy_constrained,
)

RUNS = Path("runs/cohen2020")
LEVELS = (2, 4, 8)
OUR_LEVELS = (3, 4, 6, 8, 10)
STRETCHES = (1.0, 1.3, 1.7, 2.2, 2.8)
RATE_WEIGHTS = (0.05, 0.2)  # nats (or share of the variance of a detector's output) that a bit an element is worth
ENTROPY_WEIGHTS = (0.02, 0.1, 0.3, 1.0)  # shares of the latents' variance that a bit an element is worth
HEVC = (20, 35, 50)


def measure(subject: Subject) -> None:
    """Measure all points of a subject that are not there yet."""
    points = Points(RUNS / subject.slug, subject)
    for n in OUR_LEVELS:
        for kind in (True, False):
            points.add(f"ours_{'channel' if kind else 'tensor'}_{n}", partial(ours, levels=n, per_channel=kind))
    makers = makers_of(subject)
    for n in LEVELS:
        for method, maker in makers.items():
            name = f"{method.replace(' ', '_').replace(',', '')}_{n}"
            points.add(name, partial(papers, method=method, maker=maker, levels=n))
    for lengths in (IdealLengths(), TruncatedUnaryLengths()):
        for weight in ENTROPY_WEIGHTS:
            points.add(f"{type(lengths).__name__}_{weight:g}", partial(constrained, lengths=lengths, weight=weight))
    for quality in HEVC if subject.hevc else ():
        points.add(f"hevc_{quality}", partial(hevc, quality=quality))


def ours(study: Study, levels: int, per_channel: bool) -> list[RatePoint]:
    """Limits stretched as predictions for unlabelled images advise, once for each rate weight."""

    def calibrated(stretches: tuple[float, ...]) -> Calibration:
        settings = CalibrationSettings(levels, per_channel=per_channel, stretches=stretches)
        return calibrate(study.model, study.calibration, settings)

    tried = calibrated(STRETCHES).trials
    best = {min(tried, key=lambda t: t.distance + weight * t.bits_per_element).stretch for weight in RATE_WEIGHTS}
    points = []
    for stretch in sorted(best):
        found = calibrated((stretch,)).model.coder
        codecs: dict[str, Sequence[Codec]] = {"ContextRANS": found.codecs, "Huffman": [Huffman()] * len(found.codecs)}
        setting = f"{levels} levels × {stretch:g}, {'each channel' if per_channel else 'all channels'}"
        points += study.points(OURS, setting, found.quantizers, codecs)
    return points


Maker = Callable[[LatentStatistics, int], Clipped]


def makers_of(subject: Subject) -> dict[str, Maker]:
    """Return the paper's quantizers by label: one set of levels for a tensor."""

    def unclipped(statistics: LatentStatistics, levels: int) -> Clipped:
        return Clipped.between(statistics.minimum, statistics.maximum, levels)

    def measured(statistics: LatentStatistics, levels: int) -> Clipped:
        return Clipped.between(*LeastError().of(statistics, levels), levels)

    def modelled(statistics: LatentStatistics, levels: int) -> Clipped:
        return Clipped.between(*LaplaceLimits(subject.slope).of(statistics, levels), levels)

    return {"clipped, least error": measured, "clipped, by model": modelled, "unclipped": unclipped}


def papers(study: Study, method: str, maker: Maker, levels: int) -> list[RatePoint]:
    """One set of levels for all channels, in the paper's code and in ours."""
    quantizers = [maker(statistics, levels) for statistics in study.statistics]
    codecs: dict[str, Sequence[Codec]] = {
        "TruncatedUnary": [TruncatedUnary()] * len(quantizers),
        "ContextRANS": study.fitted(ContextRANS(), quantizers),
    }
    return study.points(method, f"{levels} levels", quantizers, codecs)


def constrained(study: Study, lengths: CodeLengths, weight: float) -> list[RatePoint]:
    """Entropy-constrained levels between the limits of least error, ends pinned."""
    levels = max(LEVELS)
    limits = [LeastError().of(statistics, levels) for statistics in study.statistics]
    quantizers = [
        entropy_constrained(statistics, *pair, levels, weight, lengths)
        for statistics, pair in zip(study.statistics, limits, strict=True)
    ]
    codecs: dict[str, Sequence[Codec]] = {"TruncatedUnary": [TruncatedUnary()] * len(quantizers)}
    method = CONSTRAINED[type(lengths) is TruncatedUnaryLengths]
    return study.points(method, f"{levels} levels, λ = {weight:g}", quantizers, codecs)


def hevc(study: Study, quality: int) -> list[RatePoint]:
    """The features, in 8 bits between their extremes, as a grey picture in an HEVC intra frame."""
    model = TiledFeatures(study.model.net, MinMax(8), ImageFile("HEIC", quality), study.model.normalize).eval()
    return study.end_to_end("HEVC on tiled features", f"quality {quality}", model)


def main() -> None:
    """Measure what is missing, and write tables, CSV and plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found, _ = measure_all(parser, measure, RUNS, left_out="ResNet-20")  # ResNet-32 stands for both
    report(found, RUNS, Path("runs/carra2023"), Path("docs/results/cohen2020"))
