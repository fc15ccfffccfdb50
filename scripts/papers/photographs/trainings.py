"""What is trained and measured by scripts/papers/photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.papers.common.rate_study import Subject
from scripts.papers.common.runs import TRAINER, run_command

CONFIGS = Path("configs/photographs")
SHIPPED = Path("checkpoints/photographs")
RUNS = Path("runs/photographs/study")


@dataclass(frozen=True)
class Unit:
    """A bottleneck that learns from photographs, at several rates.

    Attributes:
        name: of its files.
        method: its name in tables and plots.
        configs: files of configs/photographs that describe it, stacked.
        rate_weights: of the second stage: what a bit per element of the latent is worth, against the distances.
        begins: (rate weight, steps) of the first stage, which serves all rates; if there are several, each goes on from
            the one before.
        steps: of the second stage.
        settings: of all stages, beside the shipped ones.
    """

    name: str
    method: str
    configs: tuple[str, ...]
    rate_weights: tuple[float, ...]
    begins: tuple[tuple[float, int], ...] = ((0.09, 1600),)
    steps: int = 1200
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A network with test images, the units that are trained for it, and photographs to train them with.

    Attributes:
        subject: network, cut and test images.
        title: of its section and plot.
        score: what the test images are scored by, with its unit.
        about: data and uncertainty, a sentence or two.
        network: words of the command line that set the network, alike in the subject's config and in those of units.
        photos: folder of photographs, none of the test images.
        units: what is trained.
        far: a cut far behind, at which clipped features are measured too; None for none.
    """

    subject: Subject
    title: str
    score: str
    about: str
    network: tuple[str, ...]
    photos: Path
    units: tuple[Unit, ...]
    far: str | None = None

    @property
    def far_subject(self) -> Subject:
        """The subject, cut far behind."""
        return replace(self.subject, overrides=(*self.subject.overrides, "--model.model.net.at", str(self.far)))

    @property
    def trainings(self) -> Iterator[Training]:
        """All units at all their rates."""
        for unit in self.units:
            for weight in unit.rate_weights:
                yield Training(self, unit, weight)


@dataclass(frozen=True)
class Training:
    """A unit that learns to keep the answers of a case's network at one rate.

    Attributes:
        case: network and photographs.
        unit: what is trained.
        rate_weight: of the second stage.
    """

    case: Case
    unit: Unit
    rate_weight: float

    @property
    def name(self) -> str:
        """Name of its shipped file."""
        return f"{self.unit.name}_{self.case.subject.slug}_{self.rate_weight:g}"

    @property
    def setting(self) -> str:
        """Its rate, in tables."""
        return f"λ = {self.rate_weight:g}"

    def bottleneck(self) -> Path:
        """Return the exported bottleneck: the shipped one, or that of a training, which goes on where it was."""
        if (found := _finished(self.name, "stage2")) is None:
            begun = ("--model.weights", str(self.first_stage(self.unit.begins)))
            found = self._trained("stage2", self.name, self.rate_weight, self.unit.steps, begun)
        return found

    def first_stage(self, begins: tuple[tuple[float, int], ...]) -> Path:
        """Return the bottleneck of the first stage, without tail, which serves all trainings of a unit."""
        *before, (rate_weight, steps) = begins
        name = f"{self.unit.name}_first_stage_{rate_weight:g}"
        if (found := _finished(name, "stage1")) is None:
            begun = ("--model.weights", str(self.first_stage(tuple(before)))) if before else ()
            found = self._trained("stage1", name, rate_weight, steps, begun)
        return found

    def _trained(self, stage: str, name: str, rate_weight: float, steps: int, begun: tuple[str, ...]) -> Path:
        """Train a stage, and return what it exports."""
        folder = RUNS / name
        network, photos = self.case.network, ("--data.root", str(self.case.photos))
        stacked = (word for config in self.unit.configs for word in ("--config", str(CONFIGS / config)))
        words = (*stacked, *network, *photos, *self.unit.settings, *begun)
        length = ("--model.rate_weight", f"{rate_weight:g}", "--trainer.max_steps", str(steps))
        place = ("--trainer.logger.save_dir", str(folder), "--stages", f"{CONFIGS}/{stage}.yaml")
        run_command(["stages", *TRAINER, *words, *length, *place], folder / "stages.log")
        return _exported(name, stage)


def _exported(name: str, stage: str) -> Path:
    return RUNS / name / f"photographs/{stage}/bottleneck.safetensors"


def _finished(name: str, stage: str) -> Path | None:
    """Return the shipped bottleneck, or else that of a finished training; None if there is none."""
    places = (SHIPPED / f"{name}.safetensors", _exported(name, stage))
    return next((place for place in places if place.is_file()), None)
