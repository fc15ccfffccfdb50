"""Configs of `splitlearn test` for the model files that commands write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from splitlearn.files import whole_file

TRAINING = (  # arguments of tasks that a test does not need
    *("rate_loss", "rate_weight", "distillation", "distillation_weight", "optimizer", "lr_scheduler"),
    "weights",  # to start from
)
HEADER = """# The bottleneck of {title}, for splitlearn test; splitlearn package takes this file too.
# Launch:  splitlearn test --config configs/trainer.yaml --config {path}
"""


def settings_to_test(config: Mapping[str, Any], loader: str, path: Path, name: str) -> dict[str, Any]:
    """Return the settings of a config for a test, with its model replaced by a call of a loader.

    Args:
        config: settings of the training or of another test.
        loader: import path of a function of `path` and `backbone` that returns the model.
        path: file of the model.
        name: name of the test's experiment.

    Raises:
        ValueError: if the config's model is not made by `splitlearn.models.split` or a loader.
    """
    try:
        task = config["model"]["init_args"]
        model = task["model"]["init_args"]
        while "model" in model:  # around a model, as in a `GainModel`
            model = model["model"]["init_args"]
        backbone = model["backbone"] if "backbone" in model else model["net"]["init_args"]["model"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            "the config names no network at model.model.net.model, as splitlearn.models.split takes it"
        ) from error
    arguments = {name: value for name, value in task.items() if name not in TRAINING}
    arguments["model"] = {"class_path": loader, "init_args": {"path": str(path), "backbone": backbone}}
    return {
        "trainer": {"logger": {"init_args": {"name": name}}},
        "model": {"class_path": config["model"]["class_path"], "init_args": arguments},
        "data": config["data"],
    }


def write_launch(bottleneck: Path, title: str, name: str, config: Mapping[str, Any]) -> Path | None:
    """Write a config of a test beside an exported bottleneck, and return its path.

    Args:
        bottleneck: file of the export.
        title: what trained it, for the comment at the top.
        name: name of the test's experiment.
        config: settings of the training.

    Returns:
        The config; None, and no file, if the network was not made by `splitlearn.models.split`.
    """
    path = bottleneck.with_suffix(".yaml")
    try:
        settings = settings_to_test(config, "splitlearn.deploy.load_bottleneck", bottleneck, name)
    except ValueError:
        return None
    write_config(path, HEADER.format(title=title, path=path), settings)
    return path


def write_config(path: Path, header: str, settings: Mapping[str, Any]) -> None:
    """Write settings as a YAML file with a comment, `header`, at the top."""
    with whole_file(path) as temporary:
        text = yaml.safe_dump(dict(settings), sort_keys=False, default_flow_style=None, width=120)
        temporary.write_text(header + text)
