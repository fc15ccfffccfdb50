"""Training on cached features: the same training, without the head, and images again for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from PIL import Image
from torch import Tensor

from splitlearn.codecs import Huffman
from splitlearn.data import CropFlip, DataError, Photos
from splitlearn.models import InputModel, NormalizedSeparable, Pixels, SplitModel, UnfrozenSplitModel
from splitlearn.quantizers import Step
from splitlearn.tasks import ClassificationTask, SelfDistillationTask, TrainFromCache
from tests.networks import halves, network
from tests.tasks.conftest import MakeTrainer

MakePhotos = Callable[..., Photos]


@pytest.fixture
def photos(tmp_path: Path) -> MakePhotos:
    """Twelve pictures of noise: eight for training, in batches of four."""
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(12):
        noise = torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(root / f"{number}.png")

    def make(batch_size: int = 4, **options: Any) -> Photos:
        return Photos(root, 32, val_size=2, test_size=2, batch_size=batch_size, **{"smallest_crop": 1} | options)

    return make


def student(at: str = "layer2", seed: int = 0) -> SplitModel:
    torch.manual_seed(0)
    return SplitModel(halves(at, seed), Step(1.0), Huffman(), partial(NormalizedSeparable, channels=8))


class CountsHeads(Callback):
    """Counts the images that pass the head while batches are trained or validated."""

    def __init__(self) -> None:
        self.images = 0

    def on_fit_start(self, trainer: object, pl_module: object) -> None:
        def count(_: object, images: tuple[Tensor]) -> None:
            self.images += len(images[0])

        pl_module.model.net.head.register_forward_pre_hook(count)  # type: ignore[attr-defined]


def trained(make_trainer: MakeTrainer, callbacks: list[Callback], data: Photos) -> dict[str, Tensor]:
    task = SelfDistillationTask(student())
    torch.manual_seed(1)
    make_trainer(callbacks=callbacks).fit(task, data)
    return dict(task.model.coder.bottlenecks.state_dict())


def test_training_is_the_same_without_the_head(make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path) -> None:
    heads = CountsHeads()
    cached = trained(make_trainer, [TrainFromCache(tmp_path / "cache", "float32"), heads], photos())
    assert heads.images == 0
    plain = trained(make_trainer, [heads], photos())
    assert heads.images > 0
    for name, tensor in plain.items():
        assert torch.allclose(cached[name].float(), tensor.float(), atol=1e-3), name


def test_a_cache_is_used_again_where_it_fits(make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path) -> None:
    cache = TrainFromCache(tmp_path / "cache")

    def fit(model: SplitModel, data: Photos) -> int:
        make_trainer(callbacks=[cache], limit_val_batches=1).fit(SelfDistillationTask(model), data)
        return len(list(cache.folder.iterdir()))

    assert fit(student(), photos()) == 1
    assert fit(student(), photos(batch_size=2)) == 1  # batches change no features
    other_classes = student()
    with torch.no_grad():
        next(other_classes.net.tail.parameters()).add_(1)
    assert fit(other_classes, photos()) == 1  # nor does what is behind the cut
    assert fit(student(seed=1), photos()) == 2
    other_features = student()
    other_features.net.head.register_forward_hook(lambda _, __, crossing: tuple(2 * tensor for tensor in crossing))
    assert fit(other_features, photos()) == 3
    assert fit(student(at="layer1.2.relu2"), photos()) == 4
    assert fit(student(), photos(train_transform=CropFlip())) == 5


def test_tests_take_images(make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path) -> None:
    task, data = SelfDistillationTask(student()), photos()
    trainer = make_trainer(callbacks=[TrainFromCache(tmp_path / "cache")])
    trainer.fit(task, data)
    heads = CountsHeads()
    heads.on_fit_start(trainer, task)
    (logged,) = trainer.test(task, data, verbose=False)
    assert heads.images > 0
    assert logged == make_trainer().test(task, photos(), verbose=False)[0]
    assert logged["test/bits_per_pixel"] == pytest.approx(8 * logged["test/bytes_per_image"] / 32 / 32)


def test_images_that_vary_are_cached_in_views(make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path) -> None:
    cache = TrainFromCache(tmp_path / "cache", views=3)
    make_trainer(callbacks=[cache]).fit(SelfDistillationTask(student()), photos(smallest_crop=0.5))
    (folder,) = cache.folder.iterdir()
    assert (folder / "train.0.npy").stat().st_size == pytest.approx(3 * 8 * 2 * 32 * 16 * 16, rel=0.01)


def test_an_error_in_training_leaves_images(make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path) -> None:
    task, data = SelfDistillationTask(student()), photos()
    task.criterion = torch.nn.BCELoss()  # refuses features above 1
    with pytest.raises(RuntimeError):
        make_trainer(callbacks=[TrainFromCache(tmp_path / "cache")]).fit(task, data)
    assert isinstance(next(iter(data.train_dataloader()))[0], Tensor)


def test_networks_and_data_without_features_are_refused(
    make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path
) -> None:
    cache = TrainFromCache(tmp_path / "cache")
    trainer = make_trainer(callbacks=[cache])
    with pytest.raises(ValueError, match="features of a InputModel on Photos cannot be cached"):
        trainer.fit(ClassificationTask(InputModel(network(), Pixels()), 10), photos())
    whole = UnfrozenSplitModel(halves("layer2"), Step(1.0), Huffman())
    with pytest.raises(ValueError, match="features of a UnfrozenSplitModel on Photos"):
        trainer.fit(ClassificationTask(whole, 10), photos())
    loader = [(torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))]
    with pytest.raises(ValueError, match="on NoneType cannot be cached"):
        make_trainer(callbacks=[cache]).fit(SelfDistillationTask(student()), loader, loader)
    assert not cache.folder.exists()


@pytest.mark.parametrize(("precision", "views"), [("int4", 1), ("float16", 0)])
def test_impossible_settings(precision: str, views: int) -> None:
    with pytest.raises(ValueError, match="precision is one of"):
        TrainFromCache(precision=precision, views=views)


def test_a_full_disk_is_told(
    make_trainer: MakeTrainer, photos: MakePhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitlearn.data.feature_cache.SPARE", 1 << 60)
    with pytest.raises(DataError, match="free some space, use another folder"):
        make_trainer(callbacks=[TrainFromCache(tmp_path / "cache")]).fit(SelfDistillationTask(student()), photos())
