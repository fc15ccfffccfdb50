"""What data a sweep is of, wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitlearn.data import DataError, ImageDataModule
from splitlearn.tasks.predictions import image_names


def facts_of(data: Any) -> dict[str, Any] | None:
    """Return what tells data from others: number of images, classes, and names of the first and last files.

    Args:
        data: of the first point of a sweep.

    Returns:
        None for data that cannot be read, and for those that do not tell.
    """
    if not isinstance(data, ImageDataModule):
        return None
    try:
        data.prepare_data()
        data.setup()
    except DataError:
        return None  # their trials fail, and say why
    facts: dict[str, Any] = {part: data.size(part) for part in ("train", "val", "test")}
    for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        ends = image_names([0, facts[part] - 1], loader.dataset, None) if facts[part] else []
        facts[f"{part}_files"] = [Path(each.file).name for each in ends]
    return facts | {"classes": list(data.class_names)}
