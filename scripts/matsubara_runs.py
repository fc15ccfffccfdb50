"""Trainings of scripts/matsubara2020: each is a shipped config with a few settings changed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from splitlearn.models import RedesignedLayer1, faster_rcnn, mask_rcnn, replaced

RUNS = Path("runs/matsubara2020")
CONFIGS = "configs/matsubara2020"
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
BLOCK = "backbone.body.3"
METHODS = {"GHND": (3, 6, 13, 17), "HND": (3,)}
BUILDERS = {"faster": faster_rcnn, "mask": mask_rcnn}
NAMES = {"faster": "Faster R-CNN", "mask": "Mask R-CNN"}
WIDTH = 32  # of the redesigned block's hidden layers


@dataclass(frozen=True)
class Detector:
    """A detector that is trained, and distilled from.

    Attributes:
        kind: "faster" or "mask".
    """

    kind: str

    @property
    def weights(self) -> Path:
        """File that its training leaves."""
        return RUNS / self.kind / "teacher" / "network.safetensors"

    @property
    def masks(self) -> bool:
        """Whether it makes masks."""
        return self.kind == "mask"

    def build(self) -> nn.Module:
        """Return it with its weights, in eval mode."""
        return BUILDERS[self.kind](
            "mobilenet_v2_same",
            2,
            str(self.weights),
            min_size=256,
            max_size=400,
            pyramid=64,
            box_width=512,
            proposals=100,
        ).eval()

    def train(self, data: str) -> None:
        """Train it, or go on where it was; nothing if that was done."""
        options = ("--model.model", f"splitlearn.models.{BUILDERS[self.kind].__name__}") if self.masks else ()
        masks = ("--model.masks", "true") if self.masks else ()
        _stage(f"{CONFIGS}/pennfudan_teacher.yaml", self.weights.parent, data, *options, *masks)


@dataclass(frozen=True)
class Student:
    """A detector with a bottleneck that is distilled.

    Attributes:
        teacher: that it comes from.
        method: "GHND" or "HND".
        channels: of the bottleneck.
    """

    teacher: Detector
    method: str
    channels: int

    @property
    def weights(self) -> Path:
        """File that its training leaves."""
        return RUNS / self.teacher.kind / f"{self.method.lower()}_{self.channels}" / "student.safetensors"

    def build(self) -> nn.Module:
        """Return it with its weights, in eval mode."""
        block = RedesignedLayer1(24, self.channels, 24, width=WIDTH, rectified=False)
        return replaced(self.teacher.build(), BLOCK, block, self.weights).eval()

    def train(self, data: str) -> None:
        """Distil it, or go on where it was; nothing if that was done."""
        pairs = ",".join(f"[backbone.body.{n},backbone.body.{n}]" for n in METHODS[self.method])
        options = ["--model.pairs", f"[{pairs}]", "--model.model.by.channels", str(self.channels)]
        for network in ("--model.teacher", "--model.model.model"):
            options += (
                [network, f"splitlearn.models.{BUILDERS[self.teacher.kind].__name__}"] if self.teacher.masks else []
            )
            options += [f"{network}.weights", str(self.teacher.weights)]
        options += ["--model.scores.masks", "true"] if self.teacher.masks else []
        _stage(f"{CONFIGS}/pennfudan_student.yaml", self.weights.parent, data, *options)


def _stage(config: str, folder: Path, data: str, *options: str) -> None:
    """Fit a config and export its best, in a process of its own; what it says goes into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    place = ("--trainer.logger.save_dir", str(folder.parent), "--trainer.logger.name", folder.name)
    words = ("--config", "configs/trainer.yaml", "--data.root", data, "--trainer.enable_progress_bar", "false")
    command = [sys.executable, "-m", "splitlearn", "stages", *words, *place, *options, "--stages", config]
    with (folder / "fit.log").open("a") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=ONE_THREAD, check=False).returncode:
            raise RuntimeError(
                f"the training in {folder} failed, see {log.name}; launched again, it goes on from there"
            )
