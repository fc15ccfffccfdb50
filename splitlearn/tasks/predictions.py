"""What `predict` has found, written once, in the order of the images, however many processes have looked for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DistributedSampler, Subset


@dataclass(frozen=True)
class ImageName:
    """Which image a prediction is of.

    Attributes:
        number: its place in the data, from 0.
        file: its path, relative to the data's root; empty if the data are in no files.
    """

    number: int
    file: str


class PredictionWriter(BasePredictionWriter):
    """Have the task write its predictions into a folder, those of all processes together, each image once.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("epoch")
        self.folder = folder

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Gather the predictions in the first process, and write them there.

        Raises:
            ValueError: if the data have several loaders, or do not tell which images a process has looked at.
        """
        loaders = CombinedLoader(trainer.predict_dataloaders).flattened
        if len(loaders) != 1:
            raise ValueError(f"predictions are of one loader, and these data have {len(loaders)}: predict one by one")
        told: list[list[int]] = [list(indices) for indices in batch_indices[0]]
        if not told and trainer.world_size > 1:
            raise ValueError(
                "these data do not tell which images each process has looked at, so that predictions have no order: "
                "predict in one process, --trainer.devices 1"
            )
        mine = list(zip(told or _counted(predictions), predictions, strict=True))
        rows: dict[int, Any] = {}
        for indices, batch in (pair for each in _gathered(mine, trainer) for pair in each):
            rows |= {index: batch[place : place + 1] for place, index in enumerate(indices)}
        if trainer.is_global_zero:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            names = image_names(sorted(rows), getattr(loaders[0], "dataset", None), getattr(data, "root", None))
            task: Any = pl_module
            classes = getattr(data, "class_names", None)
            task.write_predictions(self.folder, [rows[name.number] for name in names], classes, names)


def image_names(numbers: Sequence[int], dataset: object, root: str | Path | None) -> list[ImageName]:
    """Return which images of a data set these are.

    Args:
        numbers: their places in it.
        dataset: what lies in files has `files`, the path of each; it may be a torch `Subset` of such.
        root: that paths are told from; whole paths outside of it.
    """
    files = _files_of(dataset)
    base = None if root is None else Path(root).expanduser().absolute()
    return [ImageName(number, "" if files is None else _relative(files[number], base)) for number in numbers]


def check_no_repeats(loaders: Any, processes: int) -> None:
    """Refuse loaders that give some images to several processes.

    Args:
        loaders: of a Trainer, one or several.
        processes: how many there are.

    Raises:
        ValueError: if there are such, or loaders that do not tell.
    """
    for loader in CombinedLoader(loaders).flattened if processes > 1 else ():
        batches = getattr(loader, "batch_sampler", None)  # one of a class of its own has the sampler that is used
        sampler = getattr(batches, "sampler", None) or getattr(loader, "sampler", None)
        if not isinstance(sampler, DistributedSampler) or sampler.num_replicas != processes:
            raise ValueError(
                f"nothing shares these data out to {processes} processes, and each would look at all of them: test in "
                "one process, --trainer.devices 1, or derive the data from ImageDataModule"
            )
        if sampler.total_size > len(sampler.dataset):  # type: ignore[arg-type]
            raise ValueError(
                f"shared out evenly to {processes} processes, some of {len(sampler.dataset)} images would "  # type: ignore[arg-type]
                "count twice: test in one process, --trainer.devices 1, or derive the data from ImageDataModule"
            )


def _files_of(dataset: object) -> Sequence[Path] | None:
    if isinstance(dataset, Subset):
        inside = _files_of(dataset.dataset)
        return None if inside is None else [inside[index] for index in dataset.indices]
    return getattr(dataset, "files", None)


def _relative(file: Path, root: Path | None) -> str:
    path = Path(file)
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)


def _counted(batches: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the numbers of the images of each batch, where one process has looked at all of them in order."""
    first = 0
    for batch in batches:
        yield list(range(first, first + len(batch)))
        first += len(batch)


def _gathered(mine: Any, trainer: Trainer) -> list[Any]:
    """Return what all processes have, in the first one; nothing in others."""
    if trainer.world_size == 1:
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.gather_object(mine, found if trainer.is_global_zero else None)
    return found if trainer.is_global_zero else []
