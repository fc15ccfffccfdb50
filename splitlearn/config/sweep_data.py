"""Identity of a sweep's data and of its cached features."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from splitlearn.data import DataError, ImageDataModule
from splitlearn.data.feature_cache import EXACT, MEASURED
from splitlearn.deploy import sample_outputs, weights_id
from splitlearn.models import CoderModel
from splitlearn.outputs import init_args
from splitlearn.tasks.predictions import image_names

UNTOUCHED = ("batch_size", "num_workers")  # arguments of data that do not affect features


def facts_of(data: Any) -> dict[str, Any] | None:
    """Return facts that identify a data set: number of images, classes, and names of the first and last files.

    The result is None if the data cannot be read, or are not an `ImageDataModule`.
    """
    if not isinstance(data, ImageDataModule):
        return None
    try:
        data.prepare_data()
        data.setup()
    except DataError:
        return None  # the trials report the error
    facts: dict[str, Any] = {part: data.size(part) for part in ("train", "val", "test")}
    for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        ends = image_names([0, facts[part] - 1], loader.dataset, None) if facts[part] else []
        facts[f"{part}_files"] = [Path(each.file).name for each in ends]
    return facts | {"classes": list(data.class_names)}


def feature_key(model: CoderModel, data: ImageDataModule, precision: str, views: int) -> str:
    """Return a cache key for features of data: a checksum of weights, layers, cut, data and augmentation.

    Files below `root` are identified by their number, total size and the time of the latest change.
    """
    arguments = {k: v for k, v in init_args(data).items() if k not in UNTOUCHED}
    normalize = model.normalize and [model.normalize.mean.tolist(), model.normalize.std.tolist()]
    facts = [
        weights_id(model.net),
        [f"{float(t.norm()):.4g}" for name, t in sample_outputs(model).items() if name.startswith("network.")],
        model.net.at,
        list(model.net.shapes),
        normalize,
        type(data).__qualname__,
        {name: _described(value) for name, value in arguments.items()},
        _signature(str(arguments.get("root", ""))),
        precision,
        [EXACT, *MEASURED],
        views,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


@cache
def _signature(root: str) -> tuple[int, int, int]:
    """Return number and bytes of files below a folder, and the time of the latest change in nanoseconds."""
    found = [entry.stat() for entry in Path(root).expanduser().rglob("*") if entry.is_file()] if root else []
    return len(found), sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=0)


def _described(value: Any) -> Any:
    return [type(value).__qualname__, init_args(value)] if isinstance(value, torch.nn.Module) else value
