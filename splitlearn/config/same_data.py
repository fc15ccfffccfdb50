"""Check of test data against the training data of a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from splitlearn.data import ImageDataModule
from splitlearn.tasks import CheckpointError
from splitlearn.tasks.loading import CLASSES_KEY, CONFIG_KEY, DRAWN_KEY


def check_same_data(data: Any, settings: Any, content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse to test on training images of a checkpoint; warn of different class names.

    The settings are the config's section `data`; only an `ImageDataModule` is compared. Raises CheckpointError, naming
    the path, if training and test sets are drawn from the same images with different settings.
    """
    if not isinstance(data, ImageDataModule):
        return
    check_same_draw(data.drawn_by, data, settings, content, path)
    names, classes = content.get(CLASSES_KEY), list(data.class_names)
    if isinstance(names, list) and len(names) == len(classes) and names != classes:
        number = next(i for i, (a, b) in enumerate(zip(names, classes, strict=True)) if a != b)
        print(
            f"warning: {path} was trained with class {number} called {str(names[number])[:40]!r}, and these data call "
            f"it {classes[number]!r}: if their order differs too, rename the classes, or scores mean nothing",
            file=sys.stderr,
        )


def check_same_draw(
    names: Sequence[str], data: Any, settings: Any, content: Mapping[str, Any], path: str | Path
) -> None:
    """Raise CheckpointError if images come from the folder of a checkpoint's data, but are drawn in another way.

    Other settings draw others, and so do the same settings if photographs were added or removed.

    Args:
        names: names of the settings that determine the draw; those that the data do not have are ignored.
        data: the data module.
        settings: the config's section `data`.
        content: content of the checkpoint.
        path: path of the checkpoint, which the message names.
    """
    config = content.get(CONFIG_KEY)
    before, now = _arguments(config.get("data") if isinstance(config, Mapping) else None), _arguments(settings)
    if not before or _folder(before) != _folder(now):
        return
    for name in names:
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"{path} was trained on images that were drawn with {name} {before.get(name)}, and with {name} "
                f"{now.get(name)} it would be scored on some of these: set --data.{name} {before.get(name)}"
            )
    known, found = content.get(DRAWN_KEY), getattr(data, "drawn_from", "")
    if known and found and known != found:
        raise CheckpointError(
            f"{path} was trained when {_folder(now)} held other files, and from those of today other images would be "
            "drawn, some of which it was trained on: put the same files back, or test on a folder of others"
        )


def _arguments(section: Any) -> Mapping[str, Any]:
    arguments = section.get("init_args") if isinstance(section, Mapping) else None
    return arguments if isinstance(arguments, Mapping) else {}


def _folder(arguments: Mapping[str, Any]) -> str:
    return str(Path(str(arguments.get("root"))).expanduser().resolve())
