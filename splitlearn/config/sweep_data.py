"""Identity of a sweep's data and of its cached features."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from splitlearn.data import DataError, ImageDataModule
from splitlearn.data.feature_cache import EXACT, MEASURED
from splitlearn.data.identity import identity
from splitlearn.deploy import sample_outputs, weights_id
from splitlearn.models import CoderModel
from splitlearn.tasks.predictions import image_names


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
    """Return a cache key for features of data: a checksum of weights, layers, cut, data and augmentation."""
    normalize = model.normalize and [model.normalize.mean.tolist(), model.normalize.std.tolist()]
    facts = [
        weights_id(model.net),
        [f"{float(t.norm()):.4g}" for name, t in sample_outputs(model).items() if name.startswith("network.")],
        model.net.at,
        list(model.net.shapes),
        normalize,
        *identity(data),
        precision,
        [EXACT, *MEASURED],
        views,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]
