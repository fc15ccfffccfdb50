import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from splitlearn.data import DataError, Digits, ImageDataModule
from splitlearn.data.base import leaves_one, split_indices


class Mark(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 4 + 0.75


class Recorder(LightningModule):
    """Notes what every stage is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def _note(self, stage: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen.setdefault(stage, []).append((batch[0], batch[1]))
        return self.weight.sum()

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self._note("train", batch)

    def validation_step(self, batch: Any, index: int) -> None:
        self._note("val", batch)

    def test_step(self, batch: Any, index: int) -> None:
        self._note("test", batch)

    def predict_step(self, batch: Any, index: int) -> Tensor:
        return self._note("predict", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 on torch 2.15
def test_only_training_batches_are_augmented(tmp_path: Any) -> None:
    data = Digits(batch_size=500, train_transform=Mark())
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    model = Recorder()
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    assert model.seen.keys() == {"train", "val", "test", "predict"}
    for stage, batches in model.seen.items():
        for images, labels in batches:
            assert images.dtype == torch.float32
            assert labels.dtype == torch.int64
            darkest = 0.75 if stage == "train" else 0
            assert darkest == images.min() <= images.max() <= 1
    assert sum(len(labels) for _, labels in model.seen["train"]) == 1200


def test_conversion_without_a_trainer() -> None:
    data = Digits(train_transform=Mark())
    data.setup("test")
    images, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert images.max() == 1


def test_split_is_complete_disjoint_and_repeatable() -> None:
    kept, held_out = split_indices(100, 30, seed=3)
    assert sorted(kept + held_out) == list(range(100))
    assert len(held_out) == 30
    assert split_indices(100, 30, seed=3) == (kept, held_out)
    assert split_indices(100, 30, seed=4) != (kept, held_out)


def test_split_does_not_touch_the_global_generator() -> None:
    state = torch.get_rng_state()
    split_indices(100, 30, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("held_out", [0, 10, 11])
def test_nothing_left_to_train_on(held_out: int) -> None:
    with pytest.raises(DataError, match="set val_size below 10"):
        split_indices(10, held_out, seed=0)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"num_workers": -1}, {"val_size": 0}])
def test_impossible_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Digits(**arguments)  # type: ignore[arg-type]


def test_loader_before_setup_is_refused() -> None:
    with pytest.raises(RuntimeError, match="call setup"):
        Digits().train_dataloader()


def test_data_module_by_config() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    init_args = {"batch_size": 7, "train_transform": {"class_path": "splitlearn.data.CropFlip"}}
    config = parser.parse_object({"data": {"class_path": "splitlearn.data.Digits", "init_args": init_args}})
    data = parser.instantiate(config).data
    assert isinstance(data, Digits)
    assert data.batch_size == 7
    with pytest.raises(Exception, match="batch_sise"):
        parser.parse_object({"data": {"class_path": "splitlearn.data.Digits", "init_args": {"batch_sise": 7}}})


def test_workers_give_the_same_batches() -> None:
    alone, helped = Digits(batch_size=150), Digits(batch_size=150, num_workers=1)
    for data in (alone, helped):
        data.setup("test")
    for (a, _), (b, _) in zip(alone.test_dataloader(), helped.test_dataloader(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("leftover", "last"), [(1, []), (2, [2])])
def test_no_single_image_is_left_for_a_batch(leftover: int, last: list[int]) -> None:
    data = Digits()
    data.setup("fit")
    size = data.size("train")
    data.batch_size = size - leftover
    assert [len(labels) for _, labels in data.train_dataloader()] == [size - leftover, *last]
    assert sum(len(labels) for _, labels in data.batches("train")) == size  # all of them, where nothing trains
    data.batch_size = 2 * size
    assert [len(labels) for _, labels in data.train_dataloader()] == [size]


@pytest.mark.parametrize(
    ("count", "processes", "batch_size", "found"),
    [
        (129, 1, 64, True),
        (130, 1, 64, False),
        (130, 2, 64, True),
        (65, 2, 64, False),
        (129, 2, 64, True),
        (2, 2, 1, False),
    ],
)
def test_the_last_batch_is_that_of_a_process(count: int, processes: int, batch_size: int, found: bool) -> None:
    trainer: Any = SimpleNamespace(world_size=processes)
    assert leaves_one(range(count), batch_size, trainer) is found


def test_error_survives_a_process() -> None:
    assert str(pickle.loads(pickle.dumps(DataError("why")))) == "why"
