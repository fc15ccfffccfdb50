"""Callback that trains from cached features of the frozen head."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from splitlearn.data import CachedFeatures, ImageDataModule, cache_features
from splitlearn.data.feature_cache import PRECISIONS, is_complete
from splitlearn.data.identity import identity
from splitlearn.models import CoderModel
from splitlearn.models.images import like
from splitlearn.models.modes import evaluating
from splitlearn.models.tensor_file import bytes_of

__all__ = ["TrainFromCache"]


class TrainFromCache(Callback):
    """Train and validate on features of the frozen head that are computed once and kept on disk.

    A training step then costs what follows the cut: of a bottleneck that is distilled at the cut, only itself. Features
    of training images are kept in several views if the images vary; those of validation images are exact. Each network,
    cut, data set and setting has its own sub-folder, which later runs use again. Tests use images.

    Args:
        folder: folder of all caches.
        precision: "float16", "float32" or "uint8", in which features of training images are kept.
        views: number of differently augmented copies of every training image.
        seed: seed of order and views of training images, which then depend on nothing but seed and epoch, as in a
            sweep; None draws them from torch's global generator.

    Raises:
        ValueError: if precision or views are not legal.
    """

    def __init__(
        self,
        folder: str | Path = "runs/features",
        precision: str = "float16",
        views: int = 4,
        seed: int | None = None,
    ) -> None:
        if precision not in PRECISIONS or views < 1:
            raise ValueError(
                f"precision is one of {', '.join(PRECISIONS)} and views 1 or more, got {precision}, {views}"
            )
        self.folder, self.precision, self.views, self.seed = Path(folder), precision, views, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compute the features if they are missing, and let the data give them while the Trainer fits.

        Raises:
            ValueError: if the model has no frozen head, or the data are no `ImageDataModule`.
            DataError: if the disk has too little space.
        """
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        model = getattr(pl_module, "model", None)
        if not (isinstance(model, CoderModel) and model.frozen and isinstance(data, ImageDataModule)):
            raise ValueError(
                f"features of a {type(model).__name__} on {type(data).__name__} cannot be cached, since this needs a "
                "frozen head, as of a SplitModel, and images of splitlearn.data: leave TrainFromCache out"
            )
        device = trainer.strategy.root_device
        data.use_features(cached_features(self.folder, model, data, self.precision, self.views, device, self.seed))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the data give images again."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, ImageDataModule):
            data.use_features(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the data give images again."""
        self.teardown(trainer, pl_module, "fit")


def cached_features(
    folder: Path,
    model: CoderModel,
    data: ImageDataModule,
    precision: str,
    views: int,
    device: torch.device,
    seed: int | None = None,
) -> CachedFeatures:
    """Return the cached features of a model's frozen head, after computing them if they are missing.

    Args:
        folder: folder of all caches; each network, cut, data set and setting has its own sub-folder.
        model: a model that is `frozen`; it is moved to the device if features are computed.
        data: the images.
        precision: "float16", "float32" or "uint8", for training images.
        views: number of differently augmented copies of every training image.
        device: where to compute.
        seed: seed of the order of training images, as of `CachedFeatures`.

    Raises:
        DataError: if the disk has too little space.
    """
    own = folder / features_key(model, data, precision, views)
    if not is_complete(own):
        model.to(device)
        with evaluating(model):
            cache_features(own, data, lambda images: _kept(model, images.to(device)), precision, views)
    return CachedFeatures(own, data.batch_size, seed)


def features_key(model: CoderModel, data: ImageDataModule, precision: str, views: int) -> str:
    """Return a checksum of all that features depend on; networks that differ only behind the cut share a cache."""
    found = hashlib.sha256()
    for part, module in model.net.named_children():
        if part == "tail":
            continue
        found.update(f"{part} {module}".encode())  # strides, activations and other arguments of layers
        for name, tensor in sorted(module.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(bytes_of(tensor))
    normalize = model.normalize and [model.normalize.mean.tolist(), model.normalize.std.tolist()]
    image = torch.linspace(0, 1, math.prod(model.net.input_shape)).reshape(1, *model.net.input_shape)
    with evaluating(model), torch.no_grad():  # what equal weights and layers do not show, such as an own constant
        sample = [f"{float(t.float().norm()):.4g}" for t in _kept(model, image.to(like(model.net).device))]
    facts = [model.net.at, list(model.net.shapes), normalize, sample, *identity(data), precision, views]
    found.update(json.dumps(facts, default=str).encode())
    return found.hexdigest()[:16]


def _kept(model: CoderModel, images: Tensor) -> tuple[Tensor, ...]:
    """Return the crossing tensors of images, and behind an encoder from pixels also those that the tail is to get."""
    crossing = model.features(images)
    wanted = model.wanted(images, crossing)
    return crossing if wanted is crossing else (*crossing, *wanted)
