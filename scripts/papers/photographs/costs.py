"""What a device computes for a payload, and how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from scripts.papers.common.rate_study import prepare
from scripts.papers.common.runs import kept
from scripts.papers.photographs.pictures import bytes_of
from scripts.papers.photographs.report import clipped_behind
from scripts.papers.photographs.trainings import RUNS, Case
from splitlearn.codecs import ContextRANS, ImageCodec, ImageFile
from splitlearn.deploy import CalibrationSettings, calibrate, load_bottleneck
from splitlearn.models import CoderModel, count_macs

IMAGES = 40
WARM_UP = 5
PICTURES = {"JPEG": 45, "WebP": 50, "AVIF": 45, "HEIC": 45}  # qualities, about where a point of accuracy is lost


def measure_costs(case: Case) -> Mapping[str, Any]:
    """Return MACs and median processor time per image on the device by the way of sending, from a file if it is there.

    Times are of one thread, image by image, after warming up.
    """

    def measured() -> dict[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _costs(case)
        finally:
            torch.set_num_threads(threads)

    return dict(kept(RUNS / f"{case.subject.slug}_costs.json", measured))


def _costs(case: Case) -> dict[str, Any]:
    study = prepare(case.subject)
    images = [image[None] for image in islice((image for batch in study.pictures() for image in batch), IMAGES)]
    network = study.model.net.network()
    clipped = calibrate(study.model, study.calibration, CalibrationSettings(8, codec=ContextRANS())).model
    found = {f"{name}, quality {quality}": _of_picture(name, quality, images) for name, quality in PICTURES.items()}
    found["min–max, 4 bits, run-length"] = _of_model(study.model, images)
    found["clipped, 8 levels, ContextRANS"] = _of_model(clipped, images)
    if case.far:
        far = prepare(case.far_subject)
        model = calibrate(far.model, far.calibration, CalibrationSettings(8, codec=ContextRANS())).model
        found[f"{clipped_behind(case.far)}, 8 levels, ContextRANS"] = _of_model(model, images)
    for training in case.trainings:
        model = load_bottleneck(training.bottleneck(), network)
        found[f"{training.unit.method}, {training.setting}"] = _of_model(model, images)
    return found


def _of_picture(name: str, quality: int, images: Sequence[Tensor]) -> dict[str, float]:
    codec: ImageCodec = ImageFile(name, quality)
    arrays = [array for image in images for array in bytes_of(image)]
    return {"device_macs": 0, "encode_ms": _milliseconds(codec.encode, arrays)}


def _of_model(model: CoderModel, images: Sequence[Tensor]) -> dict[str, float]:
    macs = count_macs(model.net.head, images[0]) + model.complexity().encoder_macs
    return {"device_macs": macs, "encode_ms": _milliseconds(model.eval().compress, images)}


def _milliseconds(encode: Callable[[Any], Any], inputs: Sequence[Any]) -> float:
    """Return the median processor time of a call."""
    found = []
    for each in inputs:
        begun = time.process_time()
        encode(each)
        found.append(1000 * (time.process_time() - begun))
    return statistics.median(found[WARM_UP:])
