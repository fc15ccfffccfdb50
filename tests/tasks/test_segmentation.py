"""Segmentations are trained and measured through bytes, from files to mean intersection over union."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from splitlearn.codecs import Huffman, RunLength
from splitlearn.data import CachedFeatures, FolderSegmentation, cache_features
from splitlearn.losses import FeatureDistillation, L1Rate
from splitlearn.models import DepthwiseSeparable, InputModel, NormalizedSeparable, SplitModel, split
from splitlearn.outputs import IGNORED
from splitlearn.quantizers import MinMax, Step
from splitlearn.tasks import PredictionWriter, SegmentationTask
from tests.networks import Colours
from tests.tasks.conftest import MakeTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.* have no mask in ")

SIZE = 32
NAMES = ("black", "red", "green", "blue")
CLASSES = len(NAMES)


def model(network: nn.Module | None = None) -> SplitModel:
    return SplitModel(split(network or Colours(), "features", (3, SIZE, SIZE)), MinMax(8), RunLength())


def trainable(seed: int = 0) -> SplitModel:
    torch.manual_seed(seed)
    unit = partial(NormalizedSeparable, channels=4, stride=2)
    return SplitModel(split(Colours(), "features", (3, SIZE, SIZE)), Step(0.25), Huffman(), unit)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """Images of coloured blocks, with masks; the last image has no mask."""
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    drawing = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        for folder in ("images", "masks"):
            (tmp_path / folder / part).mkdir(parents=True)
        for n in range(count):
            labels = drawing.integers(0, CLASSES, (4, 4)).repeat([7, 9, 5, 11], 0).repeat([10, 7, 6, 9], 1)
            Image.fromarray(colours[labels]).save(tmp_path / f"images/{part}/{n}.png")
            if n < count - 1:
                Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"masks/{part}/{n}.png")
    return tmp_path


def data(root: Path, **options: Any) -> FolderSegmentation:
    settings: dict[str, Any] = {"image_size": SIZE, "val_size": 3, "batch_size": 2} | options
    return FolderSegmentation(root, {name: label for label, name in enumerate(NAMES)}, **settings)


def state(task: SegmentationTask) -> dict[str, Tensor]:
    return {name: entry.clone() for name, entry in task.state_dict().items() if isinstance(entry, Tensor)}


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_network_that_errs_along_borders_alone(make_trainer: MakeTrainer, blocks: Path, as_dict: bool) -> None:
    """Logits of half the size, resized bilinearly, are wrong where blocks meet at most."""
    task = SegmentationTask(model(Colours(as_dict)), CLASSES)
    (logged,) = make_trainer(limit_test_batches=1.0).test(task, data(blocks), verbose=False)
    assert 0.7 < logged["test/miou"] < logged["test/pixel_accuracy"] <= 1
    module, sizes, found, truth = data(blocks), [], [], []
    module.setup("test")
    task.eval()
    for images, masks in module.batches("test"):
        payloads = task.model.compress(images)
        sizes += [len(p) for p in payloads]
        output = task.model.decompress(payloads)
        logits = functional.interpolate(output["out"] if as_dict else output, (SIZE, SIZE), mode="bilinear")
        found.append(logits.argmax(1))
        truth.append(masks)
    assert len(sizes) == 5  # the image without a mask is passed over
    assert logged["test/bytes_per_image"] == pytest.approx(sum(sizes) / 5)
    assert logged["test/bits_per_pixel"] == pytest.approx(8 * sum(sizes) / 5 / SIZE**2)
    assert logged["test/pixel_accuracy"] == pytest.approx(float((torch.cat(found) == torch.cat(truth)).float().mean()))
    assert logged["test/table_bytes"] == 0
    images, masks = next(module.batches("test"))
    assert task(images).shape == (2, CLASSES, SIZE, SIZE)


def test_wrong_pixels_cost(make_trainer: MakeTrainer, blocks: Path) -> None:
    """Red, green and blue change places: black alone is right."""
    task = SegmentationTask(InputModel(Colours(wrong=True)), CLASSES)
    (logged,) = make_trainer().test(task, data(blocks), verbose=False)
    assert logged["test/miou"] < 0.26
    assert "test/table_bytes" not in logged


@pytest.mark.filterwarnings("ignore:.*masks hold only black and ignored pixels")
def test_scores_start_anew_with_each_test(make_trainer: MakeTrainer, blocks: Path) -> None:
    task = SegmentationTask(InputModel(Colours()), CLASSES)
    first = make_trainer(limit_test_batches=1.0).test(task, data(blocks), verbose=False)
    for file in (blocks / "masks/val").iterdir():
        Image.new("L", (SIZE, SIZE), IGNORED if file.stem == "0" else 0).save(file)
    second = make_trainer(limit_test_batches=1.0).test(task, data(blocks), verbose=False)
    assert second[0]["test/pixel_accuracy"] < 0.5 < first[0]["test/pixel_accuracy"]


def test_fit_changes_the_bottleneck_and_nothing_else(make_trainer: MakeTrainer, blocks: Path) -> None:
    task = SegmentationTask(
        trainable(),
        CLASSES,
        rate_loss=L1Rate(),
        rate_weight=0.01,
        distillation=FeatureDistillation(),
        optimizer=partial(torch.optim.Adam, lr=0.03),
    )
    before = state(task)
    trainer = make_trainer(max_epochs=12, limit_train_batches=1.0, limit_val_batches=1.0)
    (untrained,) = trainer.validate(task, data(blocks), verbose=False)
    trainer.fit(task, data(blocks))
    changed = {name for name, entry in state(task).items() if not torch.equal(entry, before[name])}
    assert changed
    assert all(name.startswith("model.coder.bottlenecks.") for name in changed)
    logged = trainer.callback_metrics
    assert logged.keys() >= {"val/miou", "val/pixel_accuracy", "val/estimated_bits", "val/task_loss"}
    assert logged.keys() >= {"train/task_loss", "train/rate_loss", "train/distillation_loss", "train/loss"}
    (again,) = make_trainer(limit_val_batches=1.0).validate(task, data(blocks), verbose=False)
    for name in ("val/miou", "val/pixel_accuracy"):  # of the last epoch alone
        assert again[name] == pytest.approx(float(logged[name]))
    assert logged["val/task_loss"] < 0.8 * untrained["val/task_loss"]
    assert logged["val/pixel_accuracy"] > untrained["val/pixel_accuracy"]


def test_the_loss_is_that_of_the_pixels_that_have_a_class() -> None:
    task = SegmentationTask(model(), CLASSES)
    logits = torch.randn(2, CLASSES, 4, 6, requires_grad=True)
    masks = torch.randint(CLASSES, (2, 4, 6)).to(torch.uint8)
    masks[0, :2] = masks[1, 1, 1] = IGNORED
    each = functional.cross_entropy(logits, masks.long().clamp(max=CLASSES - 1), reduction="none")
    torch.testing.assert_close(task.task_loss(logits, masks), each[masks != IGNORED].mean())
    nothing = task.task_loss(logits, torch.full_like(masks, IGNORED))
    assert nothing == 0
    nothing.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad.any()


def test_cached_features_train_the_same(make_trainer: MakeTrainer, blocks: Path, tmp_path: Path) -> None:
    """Masks are kept beside the features, those of the crop that was drawn; validation and test see no other pixel."""
    folder = tmp_path / "cache"
    info = cache_features(folder, data(blocks), trainable().features, "float32", views=3)
    assert (info.views, info.target_shape) == (3, [SIZE, SIZE])
    found = []
    for chosen in (CachedFeatures(folder, 2), data(blocks)):
        task = SegmentationTask(trainable(), CLASSES)
        trainer = make_trainer(limit_test_batches=1.0, limit_val_batches=1.0)
        (scores,) = trainer.test(task, chosen, verbose=False)
        found.append({**scores, **trainer.validate(task, chosen, verbose=False)[0]})
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    cache = CachedFeatures(folder, 9)
    views = []
    for _ in range(6):
        features, masks = cache.on_after_batch_transfer(next(iter(cache.train_dataloader())), 0)
        assert (masks.shape, masks.dtype, features.pixels) == ((8, SIZE, SIZE), torch.uint8, SIZE**2)
        brightest = features.tensors[0][:, :3].max(1).values > 0.9  # cells of one pure colour
        classes = features.tensors[0][:, :3].argmax(1) + 1
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            shown = masks[:, row::2, column::2]
            assert (shown == classes)[brightest].float().mean() > 0.95  # borders differ by half a pixel
        views.append(masks)
    assert len({mask.numpy().tobytes() for batch in views for mask in batch}) > 8  # more than a view an image
    make_trainer(limit_val_batches=1).fit(SegmentationTask(trainable(), CLASSES), cache)


def test_predictions_are_masks(make_trainer: MakeTrainer, blocks: Path, tmp_path: Path) -> None:
    task = SegmentationTask(model(), CLASSES)
    writer = PredictionWriter(tmp_path / "run")
    predicted = make_trainer(limit_predict_batches=1.0, callbacks=[writer]).predict(task, data(blocks))
    assert predicted is not None
    with (tmp_path / "run/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == set("01234")
    assert sum(int(row["pixels"]) for row in rows) == 5 * SIZE**2
    assert all(NAMES[int(row["class"])] == row["name"] for row in rows)
    with Image.open(tmp_path / "run/masks/3.png") as mask, Image.open(blocks / "masks/val/3.png") as truth:
        assert (np.array(mask) == np.array(truth)).mean() > 0.8
        assert (mask.getpalette() or [])[:12] == [
            0,
            0,
            0,
            128,
            0,
            0,
            0,
            128,
            0,
            128,
            128,
            0,
        ]  # as VOC colours its classes
    assert task.prediction_table(predicted, None)[1][2] == ""


class Other(nn.Module):
    """A network with an output of any kind."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.make = nn.Conv2d(3, 3, 1), make

    def forward(self, images: Tensor) -> Any:
        return self.make(self.layer(images))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x: x.mean((2, 3)), r"output has shape \(2, 3\): segmentation needs logits \(B, classes, h, w\)"),
        (lambda x: {"logits": x, "aux": x}, "output is a dict with the keys logits, aux: segmentation needs"),
        (lambda x: (x, x), "output is a tuple: segmentation needs"),
        (lambda x: x, "the network has 3 classes, but num_classes is 4: the classes of network and data"),
    ],
)
def test_what_is_no_segmentation_is_told(
    make_trainer: MakeTrainer, blocks: Path, make: Callable[[Tensor], Any], reason: str
) -> None:
    task = SegmentationTask(InputModel(Other(make)), CLASSES)
    for work in ("validate", "test"):
        with pytest.raises(ValueError, match=reason):
            getattr(make_trainer(), work)(task, data(blocks), verbose=False)
    with pytest.raises(ValueError, match=reason):
        make_trainer().predict(task, data(blocks))


@pytest.mark.parametrize("work", ["validate", "test"])
def test_classes_beyond_the_networks_are_told(make_trainer: MakeTrainer, blocks: Path, work: str) -> None:
    task = SegmentationTask(InputModel(Other(lambda x: x)), 3)
    with pytest.raises(ValueError, match="num_classes is 3, and FolderSegmentation has 4"):
        getattr(make_trainer(), work)(task, data(blocks), verbose=False)
    task = SegmentationTask(InputModel(Other(lambda x: x)), 3)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    for wrong in (3, -1):
        masks = torch.full((1, 8, 8), wrong)
        with pytest.raises(
            ValueError, match=f"a mask has the class {wrong}, but num_classes is 3: the classes of network"
        ):
            getattr(task, f"{work}_step".replace("validate", "validation"))((torch.rand(1, 3, 8, 8), masks), 0)


def test_impossible_numbers_of_classes_are_refused() -> None:
    for classes in (1, 256):
        with pytest.raises(ValueError, match=f"num_classes must lie in 2…255, got {classes}"):
            SegmentationTask(model(), classes)


def test_a_bottleneck_for_each_tensor_that_crosses(make_trainer: MakeTrainer, blocks: Path) -> None:
    """As in the branches of an ASPP: what goes around the cut is compressed and counted too."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.first, self.second = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1)
            self.last = nn.Conv2d(8, CLASSES, 1)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            x = self.stem(images).relu()
            return {"out": self.last(torch.cat([self.first(x), self.second(x)], 1))}

    net = split(Branches(), "second", (3, SIZE, SIZE))
    assert net.shapes == ((4, 16, 16), (6, 16, 16))
    unit = partial(DepthwiseSeparable, channels=2, stride=2)
    task = SegmentationTask(SplitModel(net, Step(0.1), Huffman(), unit), CLASSES, rate_loss=L1Rate(), rate_weight=0.1)
    trainer = make_trainer()
    trainer.fit(task, data(blocks))
    (logged,) = trainer.test(task, data(blocks), verbose=False)
    assert [latent.shape[1:] for latent in task.model.run(torch.rand(1, 3, SIZE, SIZE)).latents] == [(2, 8, 8)] * 2
    assert logged["test/bytes_per_image"] > 2 * 12  # two containers
