"""Predictions and payloads of detectors at all measured points; each point is kept in a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scripts.papers.common.runs import kept
from scripts.papers.matsubara2020.runs import Student
from splitlearn.analysis import measure_rates
from splitlearn.codecs import RANS, Codec, ContextRANS, Deflate, Huffman, Raw, RunLength, Zstandard
from splitlearn.data import ObjectsDataModule
from splitlearn.metrics import ObjectScores
from splitlearn.models import ImageCodec, ImageFile, InputModel, Pixels, SplitModel, split
from splitlearn.models.layer_outputs import layer_outputs
from splitlearn.outputs import Boxes
from splitlearn.quantizers import MinMax
from splitlearn.tasks import DetectionScores

BITS = (8, 6, 4, 3, 2)
QUALITIES = (95, 75, 50, 25, 10)
PLAIN: dict[str, Codec] = {
    "Raw": Raw(),
    "RunLength": RunLength(),
    "Huffman": Huffman(),
    "Deflate": Deflate(),
    "Zstandard": Zstandard(),
}
FITTED: tuple[type[RANS | ContextRANS], ...] = (RANS, ContextRANS)
FLOAT = "float"
TABLE_IMAGES = 32  # training images that static tables are fitted to
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Point:
    """One way of sending the test images, and what is found in them.

    Attributes:
        method: "GHND", "HND", "JPEG", …: what the points of a curve share besides channels.
        channels: of the bottleneck; 0 if there is none.
        setting: bits or quality.
        codec: of the symbols.
        scores: mean average precisions, 0…1, as `ObjectScores` names them.
        bytes_per_image: mean payload, everything in it counted; None if nothing is coded.
        relative_size: mean elements that cross over those of the network's input tensor, padded.
        table_bytes: static tables, sent once.
    """

    method: str
    channels: int
    setting: str
    codec: str
    scores: dict[str, float]
    bytes_per_image: float | None
    relative_size: float
    table_bytes: int = 0


def students_points(student: Student, images: int | None = None) -> list[Point]:
    """Return the points of a trained student on at most so many test images, from its file if there is one."""
    return kept_points(student.folder, "points", images, lambda: _students_points(student, images))


def inputs_points(student: Student, images: int | None = None) -> list[Point]:
    """Return the points of the whole teacher: not cut, and sent image files, of the images and of what it looks at."""
    return kept_points(student.teacher.folder, "inputs", images, lambda: _inputs_points(student, images))


def students_errors(student: Student, images: int | None = None) -> list[float]:
    """Return how far a student's layers are from the teacher's, those that GHND pairs: squared error over energy."""
    file = student.folder / ("errors.json" if images is None else f"errors_{images}.json")
    found: list[float] = kept(file, lambda: _students_errors(student, images))
    return found


def _students_errors(student: Student, count: int | None) -> list[float]:
    task, layers = student.task(), student.teacher.protocol.layers
    networks = (task.teacher.to(DEVICE), task.model.to(DEVICE))
    assert isinstance(task.scores, DetectionScores)
    errors, energies = [0.0] * len(layers), [0.0] * len(layers)
    with torch.inference_mode():
        for image in ScoredImages(student.data(), "test", count, task.scores).images():
            pairs = zip(*(layer_outputs(each, layers, [image]) for each in networks), strict=True)
            for number, (theirs, ours) in enumerate(pairs):
                errors[number] += float((theirs - ours).square().sum())
                energies[number] += float(theirs.square().sum())
    return [error / energy for error, energy in zip(errors, energies, strict=True)]


def kept_points(folder: Path, name: str, images: int | None, measure: Callable[[], list[Point]]) -> list[Point]:
    """Return the points of a file, which is written if it is absent; those of a few images have their own."""
    file = folder / (f"{name}.json" if images is None else f"{name}_{images}.json")
    return [Point(**point) for point in kept(file, lambda: [asdict(point) for point in measure()])]


class ScoredImages:
    """Images of a data set one by one, so that no data set is too large, and the scores of what is found in them.

    Args:
        data: what they are read from.
        part: "test" or "train"; never augmented.
        count: how many at most; None takes all.
        like: what finds boxes in an output, and whether masks count.
        resize: brings an image and its objects to another size.
    """

    def __init__(
        self,
        data: ObjectsDataModule,
        part: str,
        count: int | None,
        like: DetectionScores,
        resize: Callable[[Tensor, Boxes], tuple[Tensor, Boxes]] | None = None,
    ) -> None:
        self.data, self.part, self.count, self.like, self.resize = data, part, count, like, resize
        self.waiting: deque[Boxes] = deque()  # objects of what was given away and has not been scored
        data.setup()

    def images(self) -> Iterator[Tensor]:
        """Give one image after the other, on the accelerator if there is one."""
        pairs = (pair for batch in self.data.batches(self.part) for pair in zip(*batch, strict=True))
        for image, objects in islice(pairs, self.count):
            seen, there = (image, objects) if self.resize is None else self.resize(image, objects)
            self.waiting.append(there)
            yield seen.to(DEVICE)

    def score(self, outputs: Iterable[Any]) -> dict[str, float]:
        """Return mean average precisions of the detector's outputs, which come in the order of the images."""
        scores = ObjectScores(self.like.objects.masks)
        for output in outputs:
            found = self.like.detector.decode(output, self.like.num_classes)
            scores.update([boxes.to("cpu") for boxes in found], [self.waiting.popleft()])
        return {name: float(value) for name, value in scores.compute().items()}


def _students_points(student: Student, count: int | None) -> list[Point]:
    task, data = student.task(), student.data()
    scores = task.scores
    assert isinstance(scores, DetectionScores)
    test, sample = ScoredImages(data, "test", count, scores), ScoredImages(data, "train", TABLE_IMAGES, scores)
    net = split(task.model, student.cut, (3, 256, 256)).to(DEVICE)
    whole = SplitModel(net, MinMax(8), Raw()).eval()
    seen = [whole.features(image[None])[0].cpu() for image in sample.images()]
    elements = pixels = 0

    def outputs() -> Iterator[Any]:
        nonlocal elements, pixels
        for image in test.images():
            features = whole.features(image[None])
            elements += sum(tensor.numel() for tensor in features if tensor.is_floating_point())
            *_, height, width = map(int, features[-1][0].tolist())  # of the padded input
            pixels += 3 * height * width
            with torch.inference_mode():
                output = net.tail(*features)
            yield output

    floats = test.score(outputs())
    size = elements / pixels
    points = [Point(student.label, student.channels, FLOAT, "–", floats, None, size)]
    for bits in BITS:
        quantizer = MinMax(bits)
        models = {name: whole.coded_by([quantizer], [codec]) for name, codec in PLAIN.items()}
        symbols = [models["Raw"].coder.symbols([latent])[0][0].numpy() for latent in seen]
        for kind in FITTED:
            models[kind.__name__] = whole.coded_by([quantizer], [kind.fit(symbols, 2**bits)])
        found: dict[str, float] = {}

        def score(predictions: Iterable[Any], found: dict[str, float] = found) -> float:
            found |= test.score(predictions)
            return found["map"]

        features = (whole.features(image[None]) for image in test.images())
        for point in measure_rates(student.label, f"{bits} bits", models, features, score):
            row = (student.label, student.channels, point.setting, point.codec)
            points.append(Point(*row, dict(found), point.bytes_per_image, size, point.table_bytes))
    return points


def _inputs_points(student: Student, count: int | None) -> list[Point]:
    task = student.task()
    assert isinstance(task.scores, DetectionScores)
    teacher = task.teacher.to(DEVICE)
    as_they_are = ScoredImages(student.data(), "test", count, task.scores)
    resized = ScoredImages(student.data(), "test", count, task.scores, partial(_resized, teacher))
    points = []
    for method, test in (("image as it is", as_they_are), ("image resized", resized)):
        codecs: list[tuple[str, str, ImageCodec]] = [("pixels", "–", Pixels())]
        codecs += [(f"quality {quality}", "JPEG", ImageFile("JPEG", quality)) for quality in QUALITIES]
        for setting, name, codec in codecs:
            model, sizes = InputModel(teacher, codec).eval(), list[int]()

            def outputs(model: InputModel = model, test: Any = test, sizes: list[int] = sizes) -> Iterator[Any]:
                for image in test.images():
                    payloads = model.compress([image])
                    sizes.extend(map(len, payloads))
                    yield model.decompress(payloads)

            scores = test.score(outputs())
            points.append(Point(method, 0, setting, name, scores, sum(sizes) / len(sizes), 1.0))
    return points


def _resized(detector: nn.Module, image: Tensor, objects: Boxes) -> tuple[Tensor, Boxes]:
    """Bring an image to the size that a detector would bring it to, and its objects with it."""
    transform: Any = detector.get_submodule("transform")
    batch, _ = transform([image])
    height, width = batch.image_sizes[0]
    scale = torch.tensor([width / image.shape[-1], height / image.shape[-2]]).repeat(2)
    smaller = interpolate(image[None], (height, width), mode="bilinear", align_corners=False)[0]
    masks = None
    if objects.masks is not None:
        masks = interpolate(objects.masks[:, None].float(), (height, width), mode="nearest-exact")[:, 0] > 0
    return smaller, Boxes(objects.xyxy * scale, objects.labels, None, objects.crowd, masks)
