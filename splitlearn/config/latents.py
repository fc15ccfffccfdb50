"""Latents of the network that a config describes, on its test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from splitlearn.analysis import Activations
from splitlearn.config.images import config_images
from splitlearn.config.messages import UsageError
from splitlearn.numpy_quantizers import Grid


def config_latents(
    config: Path, ckpt_path: Path | None, data_root: Path | None, images: int, words: Sequence[str] = ()
) -> dict[str, Activations]:
    """Return what crosses the cut of a config's model for test images spread evenly, with the grid of its quantizer.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        images: how many at most.
        words: further settings of the config's command line.

    Returns:
        By name, the latents of each float tensor that crosses.

    Raises:
        UsageError: if config or model cannot give latents for a codec.
        OSError: if weights, images or checkpoint are absent.
    """
    model, batches = config_images(config, ckpt_path, data_root, images, words)
    grids = [quantizer.grid for quantizer in model.coder.quantizers]
    if None in grids:
        kind = type(model.coder.quantizers[grids.index(None)]).__name__
        raise UsageError(f"{kind} has no grid of numpy, on which codecs are compared: give it one, see Quantizer.grid")
    with torch.no_grad():
        parts = [[t.float().cpu().numpy() for t in model.coder.latents(model.features(batch))] for batch, *_ in batches]
    latents = [np.concatenate(tensors) for tensors in zip(*parts, strict=True)]
    if len(latents[0]) < 2:
        raise UsageError(f"comparing takes two images or more, {config} brings {len(latents[0])}")
    name = "latent" if len(latents) == 1 else "latent {}"
    return {
        f"{name.format(index)} at {model.net.at}": Activations(latent, [cast("Grid", grid)])
        for index, (latent, grid) in enumerate(zip(latents, grids, strict=True))
    }
