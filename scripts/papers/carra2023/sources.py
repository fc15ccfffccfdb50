"""Features at the cuts that docs/results/carra2023 looks into."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Subset

from scripts.papers.common.rate_study import Subject
from splitlearn.analysis import cut_features
from splitlearn.analysis.coefficients import spread
from splitlearn.config.build import build_task
from splitlearn.models import SplitModel

BATCH = 16  # features of many large images would not fit in memory twice


@dataclass(frozen=True)
class Source:
    """What crosses a subject's cut for some images, spread evenly over its test set.

    Attributes:
        name: of the subject.
        model: the cut network.
        crossing: all tensors that cross, `(B, …)`.
        labels: class of each image; None of a detector.
    """

    name: str
    model: SplitModel
    crossing: tuple[Tensor, ...]
    labels: Tensor | None

    @property
    def features(self) -> Tensor:
        """The float tensor that crosses, of several the first."""
        return next(t for t in self.crossing if t.is_floating_point())

    def fewer(self, images: int) -> Source:
        """Return the same of no more than so many images."""
        chosen = spread(len(self.crossing[0]), images)
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, crossing=tuple(t[chosen] for t in self.crossing), labels=labels)


def source_of(subject: Subject, images: int) -> Source:
    """Return a subject's features of so many test images, or of all if there are not so many."""
    model, data = model_and_data(subject)
    data.setup("test")
    loader = data.test_dataloader()
    test: Any = loader.dataset
    chosen = DataLoader(Subset(test, spread(len(test), images)), BATCH, collate_fn=loader.collate_fn)
    found = cut_features(model, (data.on_after_batch_transfer(raw, 0) for raw in chosen), images)
    return Source(subject.name, model, found.crossing, found.labels)


def model_and_data(subject: Subject) -> tuple[SplitModel, Any]:
    """Return a subject's model in eval mode and its data module."""
    task, data = build_task(Path(subject.config), subject.data, subject.overrides)
    model: Any = task.eval().model
    return model, data
