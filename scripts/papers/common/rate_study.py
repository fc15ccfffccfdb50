"""Networks at their cuts, as the papers' scripts measure them: many quantizers and codecs on the same images."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.papers.common.runs import kept, refuse_other_settings
from splitlearn.analysis import RatePoint, measure_rates
from splitlearn.analysis.rate_points import Score
from splitlearn.codecs import Codec
from splitlearn.config.build import build_task
from splitlearn.data import read_photos
from splitlearn.models import CompressionModel, ImageCodec, InputModel, SplitModel, fold_norms
from splitlearn.outputs import Boxes
from splitlearn.quantizers import LatentStatistics, Quantizer
from splitlearn.tasks import DetectionTask

BATCH = 50
MEMORY = 2 << 30  # bytes of features that are kept; of larger data sets they are made anew for every quantizer


@dataclass(frozen=True)
class Subject:
    """A network, its cut and its data.

    Attributes:
        name: in tables and file names.
        config: file that describes it.
        overrides: further words of the command line of `splitlearn test`.
        data: root folder of the test images.
        photos: folder of images to calibrate with: none of the test images.
        calibration_images: how many of them to take.
        slope: of the activation before the cut below zero, for the model of clipping limits; 1 where there is none.
        image_files: whether image files are measured too: once a network, since they cross before any cut.
        hevc: whether HEVC is measured: it takes minutes for ten thousand small pictures.
    """

    name: str
    config: str
    overrides: tuple[str, ...]
    data: Path
    photos: Path
    calibration_images: int = 128
    slope: float = 0.0
    image_files: bool = True
    hevc: bool = True

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return self.name.lower().replace(" ", "_").replace(".", "_")


class Crossing:
    """Crossing tensors of images in [0, 1], batch by batch, as often as they are asked for."""

    def __init__(self, model: SplitModel, pictures: Callable[[], Iterator[Tensor]]) -> None:
        self.model, self.pictures = model, pictures
        self.kept: list[tuple[Tensor, ...]] | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: list[tuple[Tensor, ...]] = []
        room = MEMORY
        for images in self.pictures():
            features = tuple(t.contiguous() for t in self.model.features(images))
            room -= sum(t.nbytes for t in features)
            if room > 0:
                kept.append(features)
            yield features
        if room > 0:
            self.kept = kept


@dataclass(frozen=True)
class Study:
    """A subject with everything made that is the same for all quantizers.

    Attributes:
        subject: what it is.
        model: the cut network.
        pictures: makes batches of the test images, float `(B, 3, H, W)` in [0, 1].
        crossing: what crosses the cut for them.
        calibration: images to calibrate with, float `(B, 3, H, W)`.
        score: of predictions for the test images.
        score_name: with its unit.
    """

    subject: Subject
    model: SplitModel
    pictures: Callable[[], Iterator[Tensor]]
    crossing: Crossing
    calibration: Tensor
    score: Score
    score_name: str

    @cached_property
    def latents(self) -> list[Tensor]:
        """The float latents of the calibration images, `(B, …)` each."""
        parts = [self.model.coder.latents(self.model.features(p)) for p in torch.split(self.calibration, BATCH)]
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]

    @cached_property
    def statistics(self) -> list[LatentStatistics]:
        """How often which values occur in each of them, all channels together."""
        return [LatentStatistics.of(tensor) for tensor in self.latents]

    def fitted(self, codec: Codec, quantizers: Sequence[Quantizer]) -> list[Codec]:
        """Return a codec for each tensor, with static tables for its symbols in the calibration images."""
        symbols = [q.quantize(t)[0].numpy() for q, t in zip(quantizers, self.latents, strict=True)]
        return [codec.fitted(list(s), q.levels) for s, q in zip(symbols, quantizers, strict=True)]

    def unsplit(self) -> float:
        """Return the score of the network without quantization."""
        return self.score(self.model.net.tail(*features) for features in self.crossing)

    def points(
        self, method: str, setting: str, quantizers: Sequence[Quantizer], codecs: Mapping[str, Sequence[Codec]]
    ) -> list[RatePoint]:
        """Return the points of one quantizer with several codecs, one a tensor each."""
        models = {label: self.model.coded_by(quantizers, each) for label, each in codecs.items()}
        return measure_rates(method, setting, models, self.crossing, self.score)

    def end_to_end(self, method: str, setting: str, model: CompressionModel) -> list[RatePoint]:
        """Return the point of any model with bytes in its middle, image by image through these bytes."""
        total = images = 0

        def predictions() -> Iterator[Any]:
            nonlocal total, images
            for pictures in self.pictures():
                payloads = model.compress(pictures)
                total += sum(map(len, payloads))
                images += len(payloads)
                yield model.decompress(payloads)

        score = self.score(predictions())
        elements = sum(t[0].numel() for t in next(iter(self.crossing)) if t.is_floating_point())
        size = total / images
        return [RatePoint(method, setting, method, 256, score, size, 8 * size / elements, 0)]

    def input_model(self, codec: ImageCodec) -> InputModel:
        """Return the network on the edge server, sent images as `codec` writes them."""
        return InputModel(_Whole(self.model), codec)


class _Whole(torch.nn.Module):
    """A cut network put together again."""

    def __init__(self, model: SplitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return the prediction."""
        return self.model.net.tail(*self.model.features(images))


def prepare(subject: Subject) -> Study:
    """Build a subject's network, data and score."""
    task, data = build_task(Path(subject.config), subject.data, subject.overrides)
    model: Any = task.eval().model.to(memory_format=torch.channels_last)  # both: a third of the time on a CPU
    fold_norms(model)
    data.setup("test")

    def batches() -> Iterator[tuple[Tensor, Any]]:
        for raw in data.test_dataloader():
            yield data.on_after_batch_transfer(raw, 0)

    def pictures() -> Iterator[Tensor]:
        for images, _ in batches():
            yield from torch.split(images, BATCH)

    targets = [target for _, truth in batches() for target in truth]
    score, name = _precision(task, targets) if isinstance(task, DetectionTask) else _accuracy(targets)
    calibration = read_photos(subject.photos, data.eval_view(), subject.calibration_images)
    return Study(subject, model, pictures, Crossing(model, pictures), calibration, score, name)


def _accuracy(targets: Sequence[Tensor]) -> tuple[Score, str]:
    labels = torch.stack(list(targets))

    def accuracy(predictions: Iterable[Any]) -> float:
        return float((torch.cat([p.argmax(1) for p in predictions]) == labels).float().mean())

    return accuracy, "top-1 accuracy (%)"


def _precision(task: DetectionTask, truth: Sequence[Boxes]) -> tuple[Score, str]:
    def precision(predictions: Iterable[Any]) -> float:
        found = [boxes for p in predictions for boxes in task.detector.decode(p, task.num_classes)]
        return task.precision_of(found, truth)

    return precision, "mAP50–95 (%)"


class Points:
    """Points of a subject, unsplit first, each kept in a file of its own: a killed run goes on where it was.

    Raises ValueError if the folder's points were measured with other settings.
    """

    def __init__(self, folder: Path, subject: Subject) -> None:
        mine = {"config": Path(subject.config).read_text(), **asdict(subject)}
        mine["overrides"] = [Path(word).name for word in subject.overrides]
        refuse_other_settings(folder, mine)
        self.folder, self._study = folder, cache(lambda: prepare(subject))
        self.add("unsplit", lambda study: [RatePoint("unsplit", "", "none", 256, study.unsplit(), 0.0, 0.0, 0)])

    def add(self, name: str, make: Callable[[Study], list[RatePoint]]) -> None:
        """Keep the points that `make` returns in a file of this name, unless it is there."""

        def told() -> list[dict[str, Any]]:
            points = make(self._study())
            for p in points:
                score = f"{100 * p.score:.2f} %, {p.bytes_per_image:,.0f} B"
                print(f"{self.folder.name}: {p.method}, {p.setting}, {p.codec}: {score}")
            return [asdict(point) for point in points]

        kept(self.folder / f"{name}.json", told)


def read_points(files: Iterable[Path]) -> list[RatePoint]:
    """Return the points of files, in the order of their names."""
    return [RatePoint(**point) for file in sorted(files) for point in json.loads(file.read_text())]


def run_all(measure: Callable[[Subject], None], subjects: Sequence[Subject], workers: int) -> None:
    """Measure subjects in processes of one thread each; the first error ends it, and what is measured is kept."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for future in as_completed([pool.submit(measure, subject) for subject in subjects]):
            future.result()
