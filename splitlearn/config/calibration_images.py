"""Model and images that a calibration works on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from splitlearn.analysis.coefficients import spread
from splitlearn.config.images import config_model
from splitlearn.config.messages import UsageError
from splitlearn.data import DataError, read_photos
from splitlearn.models import SplitModel


def calibration_images(
    config: Path,
    ckpt_path: Path | None,
    data_root: Path | None,
    photos: Path | None,
    images: int,
    words: Sequence[str] = (),
) -> tuple[SplitModel, Tensor]:
    """Return a config's model in eval mode, and float images `(B, 3, H, W)` in [0, 1] that are none of its test images.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        photos: folder of other images; None takes those that the config's data hold out for validation.
        images: how many at most, spread evenly.
        words: further settings of the config's command line.

    Raises:
        UsageError: if the config's model is no SplitModel, or its data bring no images but test images.
        DataError: if images are absent or damaged.
    """
    model, data = config_model(config, ckpt_path, data_root, words)
    if photos is not None:
        return model, read_photos(photos, data.eval_view(), images)
    return model, _held_out(data, images)


def _held_out(data: Any, images: int) -> Tensor:
    data.prepare_data()
    try:
        data.setup("validate")
    except DataError as error:
        raise UsageError(f"{error}; or calibrate with other images: --photos FOLDER") from error
    loader = data.val_dataloader()
    chosen = Subset(loader.dataset, spread(len(loader.dataset), images))
    batches = DataLoader(chosen, loader.batch_size, collate_fn=loader.collate_fn)
    return torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in batches])
