"""Trainings of scripts/papers/matsubara2020: each is a shipped config with a few settings changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.papers.common.runs import Run, processor_seconds
from splitlearn.config.build import build_task
from splitlearn.config.loading import load_task
from splitlearn.data import ObjectsDataModule
from splitlearn.files import write_json
from splitlearn.tasks import DistillationTask

CONFIGS = "configs/matsubara2020"
RUNS = Path("runs/matsubara2020")
METHODS = ("GHND", "HND")
MASK_BUILDER = "splitlearn.models.mask_rcnn"
MASK_WIDTH = 64  # of the small teacher, whose pyramid has as many channels
SECONDS = "seconds.json"
NAMES = {"faster": "Faster R-CNN", "mask": "Mask R-CNN"}


@dataclass(frozen=True)
class Protocol:
    """What is distilled on which data.

    Attributes:
        name: of its folder.
        layers: that GHND pairs; the first is replaced, and the only one that HND pairs.
        teacher: config of the teachers' training; None if theirs are published.
        student: config of the distillations.
        network: as it stands in headings.
    """

    name: str
    layers: tuple[str, ...]
    teacher: str | None
    student: str
    network: str


PENN_FUDAN = Protocol(
    name="pennfudan",
    layers=tuple(f"backbone.body.{n}" for n in (3, 6, 13, 17)),
    teacher=f"{CONFIGS}/pennfudan_teacher.yaml",
    student=f"{CONFIGS}/pennfudan_student.yaml",
    network="MobileNetV2, shorter side 256, Penn-Fudan",
)
COCO = Protocol(
    name="coco",
    layers=tuple(f"backbone.body.layer{n}" for n in (1, 2, 3, 4)),
    teacher=None,
    student=f"{CONFIGS}/coco_student.yaml",
    network="ResNet-50, shorter side 800, COCO 2017",
)
PROTOCOLS = {protocol.name: protocol for protocol in (PENN_FUDAN, COCO)}


@dataclass(frozen=True)
class Teacher:
    """A whole detector.

    Attributes:
        protocol: that it belongs to.
        kind: "faster" or "mask".
    """

    protocol: Protocol
    kind: str

    @property
    def masks(self) -> bool:
        """Whether it makes masks."""
        return self.kind == "mask"

    @property
    def folder(self) -> Path:
        """Where it and its students lie."""
        return RUNS / self.protocol.name / self.kind

    @property
    def weights(self) -> str:
        """File that its training leaves, or torchvision's name of those that are published."""
        return "COCO_V1" if self.protocol.teacher is None else str(self.folder / "teacher" / "network.safetensors")

    def built(self, setting: str) -> list[str]:
        """Return the words that build it where the configs build a Faster R-CNN."""
        if not self.masks:
            return []
        width = [] if self.protocol.teacher is None else [f"{setting}.mask_width", str(MASK_WIDTH)]
        return [setting, MASK_BUILDER, *width]

    def train(self, data: str, words: Sequence[str]) -> None:
        """Train it with further settings, or go on where it was; nothing if that was done or is not needed."""
        if self.protocol.teacher is not None:
            options = [*self.built("--model.model"), "--model.masks", "true"] if self.masks else []
            run_stage(self.protocol.teacher, self.folder / "teacher", data, [*options, *words])


@dataclass(frozen=True)
class Student:
    """A detector with a bottleneck that is distilled.

    Attributes:
        teacher: that it comes from.
        method: "GHND" or "HND".
        channels: of the bottleneck.
        epochs: that it trains for; None takes the config's.
    """

    teacher: Teacher
    method: str
    channels: int
    epochs: int | None = None

    @property
    def label(self) -> str:
        """Its method as it stands in tables."""
        return self.method if self.epochs is None else f"{self.method}, {self.epochs} epochs"

    @property
    def folder(self) -> Path:
        """Where it lies."""
        name = f"{self.method.lower()}_{self.channels}"
        return self.teacher.folder / (name if self.epochs is None else f"{name}_{self.epochs}_epochs")

    @property
    def cut(self) -> str:
        """Where it is cut."""
        return f"{self.teacher.protocol.layers[0]}.encoder"

    def train(self, data: str, words: Sequence[str]) -> None:
        """Distil it, or go on where it was; nothing if that was done. Arguments are those of the teacher's."""
        layers = self.teacher.protocol.layers if self.method == "GHND" else self.teacher.protocol.layers[:1]
        pairs = ",".join(f"[{layer},{layer}]" for layer in layers)
        options = ["--model.pairs", f"[{pairs}]", "--model.model.by.channels", str(self.channels)]
        options += [] if self.epochs is None else ["--trainer.max_epochs", str(self.epochs)]
        for network in ("--model.teacher", "--model.model.model"):
            options += [*self.teacher.built(network), f"{network}.weights", self.teacher.weights]
        options += ["--model.scores.masks", "true"] if self.teacher.masks else []
        options += ["--data.masks", "true"] if self.teacher.masks and self.teacher.protocol is COCO else []
        run_stage(self.teacher.protocol.student, self.folder, data, [*options, *words])

    def task(self) -> DistillationTask:
        """Return teacher and trained student."""
        task = load_task(Run(self.folder, ()).best)
        assert isinstance(task, DistillationTask)
        return task

    def data(self) -> ObjectsDataModule:
        """Return the data that it was trained with."""
        config = Run(self.folder, ()).newest("config.yaml")
        assert config is not None
        data: ObjectsDataModule = build_task(config, None)[1]
        return data


def run_stage(config: str, folder: Path, data: str, options: Sequence[str]) -> Run:
    """Fit a config and export its best, or go on where it was; the processor time of all launches is kept beside it."""
    run = Run(folder, (config,), ("--trainer.enable_progress_bar", "false", *options))
    done, before = list(folder.glob("[!.]*.safetensors")), processor_seconds()
    try:
        run.export(data)
    finally:
        if not done:
            spent = (seconds(folder) or 0.0) + processor_seconds() - before
            write_json(folder / SECONDS, {"processor_seconds": spent})
    return run


def seconds(folder: Path) -> float | None:
    """Return how long a training has kept the processor busy in all its launches; None if it has not run."""
    file = folder / SECONDS
    return float(json.loads(file.read_text())["processor_seconds"]) if file.is_file() else None
