"""Predictions are written once, in the order of the images, with the names of their files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Subset

from splitlearn.data import DataError, Digits, FolderSegmentation, ImageFolder
from splitlearn.metrics import ObjectScores
from splitlearn.models import InputModel, resnet8
from splitlearn.outputs import Boxes
from splitlearn.tasks import ClassificationTask, PredictionWriter, SegmentationTask
from splitlearn.tasks.predictions import check_no_repeats
from tests.networks import Colours, carra
from tests.tasks.conftest import MakeTrainer


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven images of three classes."""
    for number in range(7):
        file = tmp_path / "pictures/test" / ("cat", "dog", "owl")[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(file)
    return tmp_path / "pictures"


@pytest.mark.parametrize("in_memory", [False, True])
def test_rows_name_their_files(make_trainer: MakeTrainer, pictures: Path, tmp_path: Path, in_memory: bool) -> None:
    task = ClassificationTask(InputModel(resnet8(num_classes=3)), 3)
    data = ImageFolder(pictures, 32, in_memory=in_memory, batch_size=3)
    trainer = make_trainer(callbacks=[PredictionWriter(tmp_path)])
    found = trainer.predict(task, data)
    assert found is not None
    rows = rows_of(tmp_path)
    wanted = [f"test/cat/{n}.png" for n in (0, 3, 6)] + [f"test/dog/{n}.png" for n in (1, 4)]
    assert [row["file"] for row in rows] == [*wanted, "test/owl/2.png", "test/owl/5.png"]
    assert [row["image"] for row in rows] == list(map(str, range(7)))
    assert [int(row["class"]) for row in rows] == torch.cat(found).tolist()  # type: ignore[arg-type]
    make_trainer(callbacks=[PredictionWriter(tmp_path)], limit_predict_batches=1).predict(task, data)
    assert [row["file"] for row in rows_of(tmp_path)] == wanted[:3]


@pytest.mark.filterwarnings("ignore:Your `predict_dataloader`")
def test_rows_are_in_the_order_of_the_data(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    """Whatever the order in which a loader brings them; images in no files have numbers alone."""

    class Shuffled(Digits):
        def predict_dataloader(self) -> DataLoader[Any]:
            return self._loader(self._test, shuffle=True)

    task = ClassificationTask(carra(), 10)
    make_trainer(callbacks=[PredictionWriter(tmp_path)]).predict(task, data)
    expected = rows_of(tmp_path)
    assert list(expected[0]) == ["image", "class", "name"]
    assert len(expected) == 297
    make_trainer(callbacks=[PredictionWriter(tmp_path)]).predict(task, Shuffled(batch_size=100))
    assert rows_of(tmp_path) == expected


def test_masks_have_the_names_of_their_images(make_trainer: MakeTrainer, mask_folder: Path, tmp_path: Path) -> None:
    masks = "semantic_segmentation/masks/val2017"
    classes: dict[str, int | list[int]] = {"rest": 0, "person": 1, "cat": 2, "dog": 3}
    data = FolderSegmentation(mask_folder, classes, image_size=32, test_images="images/val2017", test_masks=masks)
    task = SegmentationTask(InputModel(Colours()), 4)
    make_trainer(callbacks=[PredictionWriter(tmp_path)]).predict(task, data)
    assert {row["file"] for row in rows_of(tmp_path)} == {f"images/val2017/val2017_{n}.jpg" for n in range(4)}
    assert sorted(file.name for file in (tmp_path / "masks").iterdir()) == [f"val2017_{n}.png" for n in range(4)]


class Process(SimpleNamespace):
    """A trainer of several processes, as data see it."""

    def __init__(self, rank: int, processes: int, fn: str = "test") -> None:
        super().__init__(world_size=processes, global_rank=rank, state=SimpleNamespace(fn=fn), training=False)


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_images_and_none_twice(processes: int) -> None:
    seen: list[Tensor] = []
    data = Digits(batch_size=100)
    data.setup()
    data._test = Subset(data._test, range(10))  # type: ignore[arg-type]
    for rank in range(processes):
        data.trainer = Process(rank, processes)  # type: ignore[assignment]
        for loader in (data.test_dataloader(), data.predict_dataloader()):
            check_no_repeats(loader, processes)
            seen += [images for images, _ in loader]
    alone = data._test.__getitems__(list(range(10)))[0]
    both = torch.cat(seen)
    assert len(both) == 20
    assert all((both == image).flatten(1).all(1).sum() == 2 for image in alone)
    data.trainer = Process(0, 11)  # type: ignore[assignment]
    with pytest.raises(DataError, match="10 images cannot be divided among 11 processes: use 10 at most"):
        data.test_dataloader()


def test_other_datas_images_are_not_counted_twice() -> None:
    data = Digits(batch_size=100)
    data.setup("test")
    images: Any = data._test
    even = DataLoader(images, sampler=DistributedSampler(images, 3, 0))
    check_no_repeats(even, 3)  # 297 images
    with pytest.raises(
        ValueError, match="divided evenly among 2 processes, some of 297 images would count twice: test in"
    ):
        check_no_repeats(DataLoader(images, sampler=DistributedSampler(images, 2, 0)), 2)
    with pytest.raises(ValueError, match="some of 297 images would count twice"):
        check_no_repeats(DataLoader(images, batch_sampler=OwnBatches(DistributedSampler(images, 2, 0), 5, False)), 2)
    check_no_repeats(DataLoader(images, batch_sampler=OwnBatches(DistributedSampler(images, 3, 0), 5, False)), 3)


class OwnBatches(BatchSampler):
    """As a loader may have them."""


class Stream(IterableDataset[int]):
    """Numbers without places."""

    def __iter__(self) -> Iterator[int]:
        yield from range(9)


def test_what_nothing_shares_out_is_refused() -> None:
    images: Any = range(9)
    shared = DataLoader(images, sampler=DistributedSampler(images, 3, 0))
    whole = DataLoader(images, batch_sampler=OwnBatches(range(9), 3, False))
    for loader in (DataLoader(images), whole, DataLoader(Stream()), [[1, 2], [3]], shared):
        check_no_repeats([loader], 1)
        with pytest.raises(ValueError, match=r"these data are not divided among 2 processes, .*: test in one process"):
            check_no_repeats([loader], 2)


@pytest.mark.parametrize("masks", [False, True])
def test_objects_of_unequal_shares_count_together(monkeypatch: pytest.MonkeyPatch, masks: bool) -> None:
    """One process has seen two images, the other one; torchmetrics' own way waits for a second for ever."""

    def boxes(right: float, score: bool) -> Boxes:
        xyxy, mask = torch.tensor([[0.0, 0, right, 8]]), torch.zeros(1, 8, 20, dtype=torch.bool)
        mask[:, :, : int(right)] = True
        return Boxes(xyxy, torch.tensor([0]), torch.tensor([0.9]) if score else None, masks=mask)

    pairs = [(boxes(8, True), boxes(8, False)), (boxes(16, True), boxes(8, False)), (boxes(9, True), boxes(9, False))]
    alone, first, second = (ObjectScores(masks) for _ in range(3))
    for scores, seen in ((alone, pairs), (first, pairs[:2]), (second, pairs[2:])):
        for found, there in seen:
            scores.update([found], [there])

    def gathered(everyone: list[Any], mine: Any, group: Any) -> None:
        everyone[:] = mine, {name: getattr(second, name) for name in mine}

    monkeypatch.setattr("torch.distributed.get_world_size", lambda group: 2)
    monkeypatch.setattr("torch.distributed.all_gather_object", gathered)
    first._sync_dist()
    assert first.compute() == alone.compute()
