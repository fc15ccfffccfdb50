"""Latents of the network that a config describes, on its test images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from lightning import LightningDataModule, LightningModule
from numpy.typing import NDArray

from splitlearn.cli.messages import UsageError
from splitlearn.cli.precheck import KEYS, check_trainer_arguments
from splitlearn.grids import Grid
from splitlearn.models import SplitModel
from splitlearn.tasks import quieten
from splitlearn.tasks.loading import load_weights_into, read_checkpoint


def config_latents(
    config: Path, ckpt_path: Path | None, data_root: Path | None, images: int
) -> tuple[dict[str, NDArray[np.float32]], Grid]:
    """Return what crosses the cut of a config's model for the first of its test images, and the grid of its quantizer.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        images: how many at most.

    Returns:
        By name, a float32 array `(B, …)` for each float tensor that crosses.

    Raises:
        UsageError: if config or model cannot give latents for a codec.
        OSError: if weights, images or checkpoint are absent.
    """
    check_trainer_arguments(["codecs", "--config", str(config)])
    quieten()
    task, data = _build(config, data_root)
    model = getattr(task, "model", None)
    if not isinstance(model, SplitModel):
        raise UsageError(f"model.model in {config} is {type(model).__name__}: only a SplitModel has latents to code")
    if model.quantizer.grid is None:
        raise UsageError(f"the levels of {type(model.quantizer).__name__} are not even: codecs compares on even ones")
    if ckpt_path is not None:
        load_weights_into(task, read_checkpoint(ckpt_path), ckpt_path)
    elif any(parameter.requires_grad for parameter in model.parameters()):
        print("warning: this bottleneck is untrained; did you mean --ckpt_path FILE?", file=sys.stderr)
    task.eval()
    latents = _latents(model, data, images)
    if len(latents[0]) < 2:
        raise UsageError(f"comparing takes two images or more, {config} brings {len(latents[0])}")
    if len(latents) == 1:
        return {f"latent at {model.net.at}": latents[0]}, model.quantizer.grid
    return {f"latent {i} at {model.net.at}": latent for i, latent in enumerate(latents)}, model.quantizer.grid


def _build(config: Path, data_root: Path | None) -> tuple[LightningModule, Any]:
    """Return the task and the data module of a config; its other sections are read and left."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    for key in set(KEYS) - {"config", "model", "data"}:
        parser.add_argument(f"--{key}", type=Any)
    parser.add_subclass_arguments(LightningModule, "model")
    parser.add_subclass_arguments(LightningDataModule, "data")
    words = ["--config", str(config)] + ([] if data_root is None else ["--data.root", str(data_root)])
    settings = parser.parse_args(words)
    torch.manual_seed(settings.seed_everything if type(settings.seed_everything) is int else 0)
    built = parser.instantiate(settings)
    return built.model, built.data


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
