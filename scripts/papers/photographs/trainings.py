"""What is trained and measured by scripts/papers/photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.papers.common.rate_study import Subject
from scripts.papers.common.runs import TRAINER, Run, run_command

CONFIGS = "configs/photographs"
SHIPPED = Path("checkpoints/photographs")
RUNS = Path("runs/photographs/study")
RATE_WEIGHTS = (0.06, 0.1, 0.17)  # what a bit per element of the latent is worth, against the error of the features
MOBILENET = "splitlearn.models.mobilenet_v2_same"


@dataclass(frozen=True)
class Training:
    """A bottleneck that learns from photographs to keep the answers of a subject's network.

    Attributes:
        subject: network, cut and test images.
        rate_weight: of the second stage.
        network: words of the command line that set the network.
        photos: folder of photographs, none of the test images.
    """

    subject: Subject
    rate_weight: float
    network: tuple[str, ...]
    photos: Path

    @property
    def name(self) -> str:
        """Name of its folder, and of its shipped file."""
        return f"{self.subject.slug}_{self.rate_weight:g}"

    def bottleneck(self) -> Path:
        """Return the exported bottleneck: the shipped one, or that of a training, which goes on where it was."""
        shipped = SHIPPED / f"{self.name}.safetensors"
        folder = RUNS / self.name
        found = folder / "photographs/stage2/bottleneck.safetensors"
        if shipped.is_file() or found.is_file():
            return shipped if shipped.is_file() else found
        begun = ("--model.weights", str(self._first_stage()), "--model.rate_weight", f"{self.rate_weight:g}")
        self._train("stage2", folder, *begun)
        return found

    def _first_stage(self) -> Path:
        """Return the bottleneck of the first stage, which knows nothing of rate or classes and serves all trainings."""
        found = RUNS / "first_stage/photographs/stage1/bottleneck.safetensors"
        if not found.is_file():
            self._train("stage1", RUNS / "first_stage")
        return found

    def _train(self, stage: str, folder: Path, *settings: str) -> None:
        words = ("--config", f"{CONFIGS}/mobilenet_v2.yaml", *self.network, "--data.root", str(self.photos))
        place = ("--trainer.logger.save_dir", str(folder), *settings)
        run_command(["stages", *TRAINER, *words, *place, "--stages", f"{CONFIGS}/{stage}.yaml"], folder / "stages.log")


def network_words(weights: Path, classes: int) -> tuple[str, ...]:
    """Return the words that set MobileNetV2 with TensorFlow's padding."""
    at = "--model.model.net.model"
    return at, MOBILENET, f"{at}.weights", str(weights), f"{at}.num_classes", str(classes)


def caltech_network(weights: Path, data: Path) -> Path:
    """Return weights of MobileNetV2 with a linear classifier for Caltech-101, trained first if they are absent."""
    at = "--model.model.network.model.model"
    words = (at, MOBILENET, f"{at}.weights", str(weights))
    run = Run(RUNS / "caltech101_classifier", (f"{CONFIGS}/caltech101_classifier.yaml",), words)
    run.export(str(data))
    return run.folder / "network.safetensors"
