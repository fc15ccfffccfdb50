"""Model and images of a config, for commands that analyze features."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from splitlearn.analysis import Activations
from splitlearn.analysis.coefficients import spread
from splitlearn.config.build import build_task
from splitlearn.config.messages import UsageError
from splitlearn.data import DataError
from splitlearn.models import CoderModel
from splitlearn.numpy_quantizers import Grid
from splitlearn.tasks.loading import load_weights_into, read_checkpoint

M = TypeVar("M", bound=nn.Module)
BATCH = 16  # limits the memory of features of large images


def model_of(
    config: Path, ckpt_path: Path | None, data_root: Path | None, words: Sequence[str], kind: type[M], has: str
) -> tuple[M, Any]:
    """Return the model of a config, with the weights of a checkpoint if given, and its data module.

    Raises UsageError if the model is not a `kind`; the message says what only such a model `has`.
    """
    task, data = build_task(config, data_root, words)
    model = getattr(task, "model", None)
    if not isinstance(model, kind):
        raise UsageError(f"model.model in {config} is {type(model).__name__}: only {has}")
    if ckpt_path is not None:
        load_weights_into(task, read_checkpoint(ckpt_path), ckpt_path)
    return model.eval(), data


def config_model(
    config: Path, ckpt_path: Path | None, data_root: Path | None, words: Sequence[str] = ()
) -> tuple[CoderModel, Any]:
    """Return the model, in eval mode, and the data module of a config of `splitlearn test`; the model must have a cut.

    Without a checkpoint, a bottleneck with random weights causes a warning. Raises UsageError if the model is no
    `CoderModel`, OSError if weights or checkpoint are missing.
    """
    model, data = model_of(config, ckpt_path, data_root, words, CoderModel, "a SplitModel has features at a cut")
    if ckpt_path is None and any(parameter.requires_grad for parameter in model.parameters()):
        print("warning: this bottleneck is untrained; did you mean --ckpt_path FILE?", file=sys.stderr)
    return model, data


def spread_batches(data: Any, images: int) -> Iterator[Any]:
    """Yield batches of at most `images` test images, evenly spaced because test sets are often sorted by class."""
    data.prepare_data()
    data.setup("test")
    loader = data.test_dataloader()
    count = len(loader.dataset)
    chosen = spread(count, images)
    size = min(BATCH, loader.batch_size or BATCH)
    for raw in DataLoader(Subset(loader.dataset, chosen), size, collate_fn=loader.collate_fn):
        yield data.on_after_batch_transfer(raw, 0)


def validation_images(data: Any, images: int) -> Tensor:
    """Return at most `images` evenly spaced validation images, float `(B, 3, H, W)` in [0, 1].

    Raises UsageError if there is no validation set.
    """
    data.prepare_data()
    try:
        data.setup("validate")
    except DataError as error:
        raise UsageError(f"{error}; or name other images: --photos FOLDER") from error
    loader = data.val_dataloader()
    chosen = Subset(loader.dataset, spread(len(loader.dataset), images))
    batches = DataLoader(chosen, loader.batch_size, collate_fn=loader.collate_fn)
    return torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in batches])


def latents_of(model: CoderModel, batches: Iterable[Any]) -> dict[str, Activations]:
    """Return the latents of each crossing float tensor, by name, with the numpy twin (grid) of its quantizer.

    The model is in eval mode; batches are tuples that begin with images in [0, 1]. Raises UsageError if a quantizer has
    no grid, or there are fewer than two images.
    """
    grids = [quantizer.grid for quantizer in model.coder.quantizers]
    if None in grids:
        kind = type(model.coder.quantizers[grids.index(None)]).__name__
        raise UsageError(f"{kind} has no numpy grid, which a comparison of codecs needs: implement Quantizer.grid")
    with torch.no_grad():
        parts = [[t.float().cpu().numpy() for t in model.coder.latents(model.features(batch))] for batch, *_ in batches]
    latents = [np.concatenate(tensors) for tensors in zip(*parts, strict=True)]
    if len(latents[0]) < 2:
        raise UsageError(f"comparing takes two images or more, the config brings {len(latents[0])}")
    name = "latent" if len(latents) == 1 else "latent {}"
    return {
        f"{name.format(index)} at {model.net.at}": Activations(latent, [cast("Grid", grid)])
        for index, (latent, grid) in enumerate(zip(latents, grids, strict=True))
    }
