"""Writing of predictions: once, in the order of the images, for any number of processes."""

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
    """The image of a prediction.

    Attributes:
        number: index of the image in the data, from 0.
        file: path of the image, relative to the data's root; empty if it has no file.
    """

    number: int
    file: str


class PredictionWriter(BasePredictionWriter):
    """Let the task write the predictions of all processes into a folder, each image once.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("epoch")
        self.folder = folder

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Gather the predictions in the first process, and write them there.

        Raises:
            ValueError: if the data have several loaders, or the images of each process are unknown.
        """
        loaders = CombinedLoader(trainer.predict_dataloaders).flattened
        if len(loaders) != 1:
            raise ValueError(f"predictions need one loader, and these data have {len(loaders)}: predict one by one")
        known: list[list[int]] = [list(indices) for indices in batch_indices[0]]
        if not known and trainer.world_size > 1:
            raise ValueError(
                "these data do not state the images of each process, so predictions have no order: predict in one "
                "process, --trainer.devices 1"
            )
        mine = list(zip(known or _counted(predictions), predictions, strict=True))
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
    """Return the names of images, by index, of a data set with paths in `files`, or a torch `Subset` of such.

    Paths are relative to `root`; those outside of it are absolute.
    """
    files = _files_of(dataset)
    base = None if root is None else Path(root).expanduser().absolute()
    return [ImageName(number, "" if files is None else _relative(files[number], base)) for number in numbers]


def check_no_repeats(loaders: Any, processes: int) -> None:
    """Raise ValueError if the loaders give an image to several processes, or do not show whether they do."""
    for loader in CombinedLoader(loaders).flattened if processes > 1 else ():
        batches = getattr(loader, "batch_sampler", None)  # a custom batch sampler contains the sampler in use
        sampler = getattr(batches, "sampler", None) or getattr(loader, "sampler", None)
        if not isinstance(sampler, DistributedSampler) or sampler.num_replicas != processes:
            raise ValueError(
                f"these data are not divided among {processes} processes, and each would test all images: test in one "
                "process, --trainer.devices 1, or derive the data from ImageDataModule"
            )
        if sampler.total_size > len(sampler.dataset):  # type: ignore[arg-type]
            raise ValueError(
                f"divided evenly among {processes} processes, some of {len(sampler.dataset)} images would "  # type: ignore[arg-type]
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
    """Yield the image numbers of each batch, for a single process that has predicted all images in order."""
    first = 0
    for batch in batches:
        yield list(range(first, first + len(batch)))
        first += len(batch)


def _gathered(mine: Any, trainer: Trainer) -> list[Any]:
    """Return the objects of all processes in the first process, and an empty list in the others."""
    if trainer.world_size == 1:
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.gather_object(mine, found if trainer.is_global_zero else None)
    return found if trainer.is_global_zero else []
