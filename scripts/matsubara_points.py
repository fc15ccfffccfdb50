"""What detectors find, and what is sent, at the points of scripts/matsubara2020: each from its file if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matsubara_runs import Student
from torch import Tensor, nn
from torch.nn.functional import interpolate

from splitlearn.analysis import measure_rates
from splitlearn.codecs import RANS, Codec, ContextRANS, Deflate, Huffman, Raw, RunLength, Zstandard
from splitlearn.data import ObjectsDataModule
from splitlearn.files import write_json
from splitlearn.metrics import ObjectScores
from splitlearn.models import ImageCodec, ImageFile, InputModel, Pixels, SplitModel, split
from splitlearn.outputs import Boxes
from splitlearn.quantizers import MinMax
from splitlearn.tasks import FoundObjects

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
Images = Sequence[tuple[Tensor, Boxes]]


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
    """Return the points of a student, from its file if there is one.

    Args:
        student: a trained one.
        images: of the test images, how many at most; None takes all.
    """
    return _once(student.folder / "points.json", lambda: _students_points(student, images))


def inputs_points(student: Student, images: int | None = None) -> list[Point]:
    """Return the points of the whole teacher: not cut, and sent image files, of the images and of what it looks at."""
    return _once(student.teacher.folder / "inputs.json", lambda: _inputs_points(student, images))


def _once(file: Path, measure: Callable[[], list[Point]]) -> list[Point]:
    if not file.is_file():
        write_json(file, [asdict(point) for point in measure()])
    return [Point(**point) for point in json.loads(file.read_text())]


def _students_points(student: Student, count: int | None) -> list[Point]:
    task, data = student.task(), student.data()
    scores = task.scores
    assert isinstance(scores, FoundObjects)
    test, sample = _images(data, "test", count), _images(data, "train", 32)
    net = split(task.model, student.cut, (3, 256, 256))
    whole = SplitModel(net, MinMax(8), Raw())
    features = [whole.features(image[None]) for image, _ in test]
    seen = [whole.features(image[None]) for image, _ in sample]
    truth = [objects for _, objects in test]
    size = sum(_elements(tensors) for tensors in features) / sum(_input_elements(tensors) for tensors in features)
    with torch.inference_mode():
        floats = _score((net.tail(*tensors) for tensors in features), truth, scores)
    points = [Point(student.method, student.channels, FLOAT, "–", floats, None, size)]
    for bits in BITS:
        models = {name: whole.coded_by([MinMax(bits)], [codec]) for name, codec in PLAIN.items()}
        symbols = [whole.coded_by([MinMax(bits)], [Raw()]).symbols_of([tensors[0]])[0][0].numpy() for tensors in seen]
        for kind in FITTED:
            models[kind.__name__] = whole.coded_by([MinMax(bits)], [kind.fit(symbols, 2**bits)])
        found: dict[str, float] = {}

        def score(predictions: Iterable[Any], found: dict[str, float] = found) -> float:
            found |= _score(predictions, truth, scores)
            return found["map"]

        for point in measure_rates(student.method, f"{bits} bits", models, features, score):
            row = (student.method, student.channels, point.setting, point.codec)
            points.append(Point(*row, dict(found), point.bytes_per_image, size, point.table_bytes))
    return points


def _inputs_points(student: Student, count: int | None) -> list[Point]:
    task = student.task()
    assert isinstance(task.scores, FoundObjects)
    as_they_are = _images(student.data(), "test", count)
    resized = [_resized(task.teacher, *pair) for pair in as_they_are]
    points = []
    for method, images in (("image as it is", as_they_are), ("image resized", resized)):
        codecs: list[tuple[str, str, ImageCodec]] = [("pixels", "–", Pixels())]
        codecs += [(f"quality {quality}", "JPEG", ImageFile("JPEG", quality)) for quality in QUALITIES]
        for setting, name, codec in codecs:
            model, sizes = InputModel(task.teacher, codec).eval(), list[int]()

            def predictions(
                model: InputModel = model, images: Images = images, sizes: list[int] = sizes
            ) -> Iterator[Any]:
                for image, _ in images:
                    payloads = model.compress([image])
                    sizes.extend(map(len, payloads))
                    yield model.decompress(payloads)

            scores = _score(predictions(), [objects for _, objects in images], task.scores)
            points.append(Point(method, 0, setting, name, scores, sum(sizes) / len(sizes), 1.0))
    return points


def _score(predictions: Iterable[Any], truth: Sequence[Boxes], like: FoundObjects) -> dict[str, float]:
    scores = ObjectScores(like.objects.masks)
    for number, output in enumerate(predictions):
        scores.update(like.detector.decode(output, like.num_classes), [truth[number]])
    return {name: float(value) for name, value in scores.compute().items()}


def _images(data: ObjectsDataModule, part: str, count: int | None) -> list[tuple[Tensor, Boxes]]:
    data.setup()
    found: list[tuple[Tensor, Boxes]] = []
    for images, objects in data.batches(part):
        found += zip(images, objects, strict=True)
        if count is not None and len(found) >= count:
            return found[:count]
    return found


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


def _elements(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())


def _input_elements(tensors: Sequence[Tensor]) -> int:
    """Return the elements of the padded input, which the sizes that cross tell."""
    *_, height, width = map(int, tensors[-1][0].tolist())
    return 3 * height * width
