"""The networks that scripts/papers/streams measures, and what of them is the same for all ways of sending."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.papers.streams.footage import Clip, Scene, still
from splitlearn.config.build import build_task
from splitlearn.data import read_photos
from splitlearn.deploy import CalibrationSettings, calibrate, load_bottleneck
from splitlearn.models import CoderModel
from splitlearn.models.pipelines.video_model import latent_rows, predicted, unsplit
from splitlearn.outputs import Features
from splitlearn.tasks import StudentScores

BATCH = 5
STRETCHES = (1.0, 1.3, 1.7)
ADVICE_WEIGHT = 0.05  # nats that a bit per element is worth where clipping limits are chosen
TILED_LEVELS = 256


@dataclass(frozen=True)
class Network:
    """A network at its cut.

    Attributes:
        name: in tables and file names.
        config: file of `splitlearn test` that describes it.
        overrides: further words of the command line.
        photos: photographs to calibrate levels with.
        photos_count: how many of them.
        agreement: makes the scores from the config's task.
        score: key of what these compute.
        score_name: what it is, with its unit.
        trained: files of trained bottlenecks at the same cut.
    """

    name: str
    config: str
    overrides: tuple[str, ...]
    photos: Path
    photos_count: int
    agreement: Callable[[Any], StudentScores]
    score: str
    score_name: str
    trained: tuple[Path, ...] = ()

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return self.name.lower().replace(" ", "_").replace(".", "_")


@dataclass
class Footage:
    """Clips with the features at the cut and the answers of the unsplit network, which all ways of sending share."""

    clips: Sequence[Clip]
    features: list[Features] = field(default_factory=list)
    answers: list[list[Any]] = field(default_factory=list)
    known: dict[int, float] = field(default_factory=dict)


class Cut:
    """A network, cut, with the levels that photographs tell.

    Args:
        network: the network.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        task, self.data = build_task(Path(network.config), network.photos, network.overrides)
        self.task: Any = task.eval()
        self.model: Any = self.task.model.to(memory_format=torch.channels_last)
        self._calibrated: dict[int, CoderModel] = {}

    @cached_property
    def photographs(self) -> Tensor:
        """What levels are calibrated with."""
        return read_photos(self.network.photos, self.data.eval_view(), self.network.photos_count)

    def calibrated(self, levels: int) -> CoderModel:
        """Return the network with clipped levels, as photographs tell them."""
        if levels not in self._calibrated:
            stretches = (1.0,) if levels == TILED_LEVELS else STRETCHES
            settings = CalibrationSettings(levels, stretches=stretches, rate_weight=ADVICE_WEIGHT)
            self._calibrated[levels] = calibrate(self.model, self.photographs, settings).model
        return self._calibrated[levels]

    def bottleneck(self, path: Path) -> CoderModel:
        """Return the network with a trained bottleneck."""
        found = load_bottleneck(path, self.model.net.network()).eval()
        return found.to(memory_format=torch.channels_last)


class Prepared:
    """A cut network and a scene, with everything made that several points need.

    Args:
        cut: the network.
        scene: the scene.
    """

    def __init__(self, cut: Cut, scene: Scene) -> None:
        self.cut, self.scene = cut, scene
        self.model = cut.model
        self._stills: dict[float, Footage] = {}

    @cached_property
    def chosen_on(self) -> Footage:
        """Clips that settings are chosen on."""
        return self._shown(self.scene.chosen_on(self.cut.data.eval_view()))

    @cached_property
    def scored(self) -> Footage:
        """Clips that are scored."""
        return self._shown(self.scene.scored(self.cut.data.eval_view()))

    def still(self, noise: float) -> Footage:
        """Return one frame again and again, with noise of so many grey levels."""
        if noise not in self._stills:
            clip = still(self.scored.clips[0], noise)
            self._stills[noise] = Footage([clip], [self.features_of(clip)])
        return self._stills[noise]

    def features_of(self, clip: Clip) -> Features:
        """Return what crosses the cut for all frames of a clip."""
        height, width = clip.frames.shape[2:]
        found = [self._features(frames) for frames in torch.split(clip.frames, BATCH)]
        return Features(tuple(torch.cat(tensors) for tensors in zip(*found, strict=True)), int(height * width))

    def answered(self, footage: Footage, outputs: Iterator[Any]) -> float:
        """Return the agreement of outputs, batch by batch through all clips, with the unsplit network's."""
        if not footage.answers:
            footage.answers = [[unsplit(self.model, b) for b in batches(each)] for each in footage.features]
        scores = self.cut.network.agreement(self.cut.task)
        for wanted in (answer for answers in footage.answers for answer in answers):
            scores.update(next(outputs), wanted)
        return float(scores.compute()[self.cut.network.score])

    def agreement(self, model: CoderModel, footage: Footage, sent: Sequence[Sequence[Any]]) -> float:
        """Return the agreement of answers from decoded symbols; equal symbols are asked for once.

        Args:
            model: whose decoder and tail they are for.
            footage: the clips.
            sent: for each clip what `StreamReceiver.unpack` has returned for its frames.
        """
        key = model.coder.context
        for tensors in (tensors for clip in sent for frame in clip for tensors in frame):
            key = zlib.crc32(tensors[0].tobytes(), key)
        if key not in footage.known:
            parts = (clip[at : at + BATCH] for clip in sent for at in range(0, len(clip), BATCH))
            footage.known[key] = self.answered(footage, (predicted(model, part) for part in parts))
        return footage.known[key]

    def _shown(self, clips: Sequence[Clip]) -> Footage:
        return Footage(clips, [self.features_of(clip) for clip in clips])

    def _features(self, frames: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return tuple(tensor.contiguous() for tensor in self.model.features(frames))


def batches(features: Features) -> Iterator[Features]:
    """Yield features batch by batch."""
    for at in range(0, len(features), BATCH):
        yield Features(tuple(tensor[at : at + BATCH] for tensor in features.tensors), features.pixels)


def rows(model: CoderModel, features: Features) -> list[list[NDArray[Any]]]:
    """Return the latents of each frame."""
    return [row for batch in batches(features) for row in latent_rows(model, batch)]
