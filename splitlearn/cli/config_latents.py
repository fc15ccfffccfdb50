"""Latents of the network that a config describes, on its test images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray

from splitlearn.analysis import Activations
from splitlearn.cli.config_model import build_task
from splitlearn.cli.messages import UsageError
from splitlearn.grids import Grid
from splitlearn.models import SplitModel
from splitlearn.tasks.loading import load_weights_into, read_checkpoint


def config_latents(config: Path, ckpt_path: Path | None, data_root: Path | None, images: int) -> dict[str, Activations]:
    """Return what crosses the cut of a config's model for the first of its test images, with the grid of its quantizer.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        images: how many at most.

    Returns:
        By name, the latents of each float tensor that crosses.

    Raises:
        UsageError: if config or model cannot give latents for a codec.
        OSError: if weights, images or checkpoint are absent.
    """
    task, data = build_task(config, data_root)
    model = getattr(task, "model", None)
    if not isinstance(model, SplitModel):
        raise UsageError(f"model.model in {config} is {type(model).__name__}: only a SplitModel has latents to code")
    grids = [quantizer.grid for quantizer in model.quantizers]
    if None in grids:
        kind = type(model.quantizers[grids.index(None)]).__name__
        raise UsageError(f"{kind} has no grid of numpy, on which codecs are compared: give it one, see Quantizer.grid")
    if ckpt_path is not None:
        load_weights_into(task, read_checkpoint(ckpt_path), ckpt_path)
    elif any(parameter.requires_grad for parameter in model.parameters()):
        print("warning: this bottleneck is untrained; did you mean --ckpt_path FILE?", file=sys.stderr)
    task.eval()
    latents = _latents(model, data, images)
    if len(latents[0]) < 2:
        raise UsageError(f"comparing takes two images or more, {config} brings {len(latents[0])}")
    name = "latent" if len(latents) == 1 else "latent {}"
    return {
        f"{name.format(index)} at {model.net.at}": Activations(latent, [cast("Grid", grid)])
        for index, (latent, grid) in enumerate(zip(latents, grids, strict=True))
    }


@torch.inference_mode()
def _latents(model: SplitModel, data: LightningDataModule, images: int) -> list[NDArray[np.float32]]:
    """Return each latent of the first test images, float32 `(B, …)`."""
    data.prepare_data()
    data.setup("test")
    parts: list[list[NDArray[np.float32]]] = []
    seen = 0
    for raw in data.test_dataloader():
        batch = data.on_after_batch_transfer(raw, 0)[0][: images - seen]
        parts.append([latent.float().cpu().numpy() for latent in model.run(batch).latents])
        seen += len(batch)
        if seen >= images:
            break
    return [np.concatenate(list(tensors)) for tensors in zip(*parts, strict=True)]
