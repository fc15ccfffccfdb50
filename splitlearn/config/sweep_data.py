"""Identity of a sweep's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitlearn.data import DataError, ImageDataModule
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
