"""Model and test images that a config describes, for analyses of features."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Subset

from splitlearn.analysis.coefficients import spread
from splitlearn.config.build import build_task
from splitlearn.config.messages import UsageError
from splitlearn.models import SplitModel
from splitlearn.tasks.loading import load_weights_into, read_checkpoint

BATCH = 16  # features of many large images would not fit in memory twice


def config_images(
    config: Path, ckpt_path: Path | None, data_root: Path | None, images: int, words: Sequence[str] = ()
) -> tuple[SplitModel, Iterator[Any]]:
    """Return a config's model in eval mode, and batches of its test images, spread evenly over the test set.

    Test sets are often sorted by class: the first images would all be of one. The data are read when the first batch is
    asked for.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        images: how many at most.
        words: further settings of the config's command line, e.g. `--model.model.net.at`, `layer1`.

    Raises:
        UsageError: if the config's model is no SplitModel.
        OSError: if weights or checkpoint are absent.
    """
    model, data = config_model(config, ckpt_path, data_root, words)
    return model, _batches(data, images)


def config_model(
    config: Path, ckpt_path: Path | None, data_root: Path | None, words: Sequence[str] = ()
) -> tuple[SplitModel, Any]:
    """Return a config's model in eval mode and its data module.

    Args:
        config: what `splitlearn test` takes; of its sections only model and data count.
        ckpt_path: checkpoint of a trained bottleneck; None leaves the model as the config builds it.
        data_root: folder of the images, in place of the config's `data.root`.
        words: further settings of the config's command line.

    Raises:
        UsageError: if the config's model is no SplitModel.
        OSError: if weights or checkpoint are absent.
    """
    task, data = build_task(config, data_root, words)
    model = getattr(task, "model", None)
    if not isinstance(model, SplitModel):
        raise UsageError(f"model.model in {config} is {type(model).__name__}: only a SplitModel has features at a cut")
    if ckpt_path is not None:
        load_weights_into(task, read_checkpoint(ckpt_path), ckpt_path)
    elif any(parameter.requires_grad for parameter in model.parameters()):
        print("warning: this bottleneck is untrained; did you mean --ckpt_path FILE?", file=sys.stderr)
    task.eval()
    return model, data


def _batches(data: Any, images: int) -> Iterator[Any]:
    data.prepare_data()
    data.setup("test")
    loader = data.test_dataloader()
    count = len(loader.dataset)
    chosen = spread(count, images)
    size = min(BATCH, loader.batch_size or BATCH)
    for raw in DataLoader(Subset(loader.dataset, chosen), size, collate_fn=loader.collate_fn):
        yield data.on_after_batch_transfer(raw, 0)
