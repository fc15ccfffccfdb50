"""Checks of the arguments of trainer commands before slow imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.files import read_yaml
from splitlearn.shipped import located, shipped_root

KEYS = (
    "config",
    "seed_everything",
    "trainer",
    "model",
    "data",
    "checkpoint",
    "ckpt_path",
    "return_predictions",
    "weights_only",
    "verbose",
)
TRAINER_COMMANDS = {
    "fit": "Train the model of a config, such as a bottleneck at the cut.",
    "validate": "Validate the model of a config on the validation data.",
    "test": "Test with real payloads of the test images, and write results.json.",
    "predict": "Predict the test images from their payloads, and write the predictions.",
}
FLAGS = ("-h", "--help", "-c", "--print_config")


def check_trainer_arguments(arguments: list[str]) -> None:
    """Check the arguments of a command for unknown options, missing config files and unknown top-level keys.

    Raises UsageError with the wrong argument and similar legal ones, in one sentence.
    """
    command, options = arguments[0], arguments[1:]
    if not options:
        raise UsageError(f"{command} needs a config{example(command)}")
    for position, option in enumerate(options):
        if not option.startswith("-") or option.split("=")[0] in FLAGS:
            continue
        key = option.lstrip("-").split("=")[0]
        if option.startswith("--") and key.split(".")[0].rstrip("+") not in (*KEYS, "print_config", "trainer", "model"):
            raise UsageError(f"{command} has no option --{key}{did_you_mean(key, KEYS)}")
        if key.endswith(".help") and key not in ("model.help", "data.help") and not _value(options, position):
            raise UsageError(f"--{key} takes a class: --{key} CLASS")
        if key == "config":
            _check_config(Path(_value(options, position)))


def _value(options: list[str], position: int) -> str:
    """Return the value of an option, after the equals sign or as the next argument; "" if there is none."""
    behind = "".join(options[position + 1 : position + 2])
    return options[position].partition("=")[2] or ("" if behind.startswith("-") else behind)


def example(command: str) -> str:
    """Return an example of a command, with configs that ship with splitlearn."""
    files = ("configs/trainer.yaml", "configs/quickstart.yaml")
    words = {"fit": "", "sweep": " --space configs/spaces/quickstart.yaml"}.get(command, " --ckpt_path last")
    return f", e.g. splitlearn {command} {' '.join(f'--config {file}' for file in files)}{words}"


def _check_config(path: Path) -> None:
    path = located(path)
    if not path.is_file():
        shipped = [p.relative_to(shipped_root()) for p in (shipped_root() / "configs").rglob("*.yaml")]
        nearby = [p.as_posix() for p in (*Path("configs").rglob("*.yaml"), *shipped)]
        raise UsageError(f"no config file {str(path)!r}{did_you_mean(str(path), nearby)}")
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings; see configs/quickstart.yaml for an example")
    for key in content:
        if str(key) not in KEYS:
            raise UsageError(f"{path} has an unknown key {key!r}{did_you_mean(str(key), KEYS)}")
    _check_class_paths(content, path)


def _check_class_paths(settings: Any, path: Path) -> None:
    """Check that all class paths are strings, as parsers of configs assume."""
    if isinstance(settings, dict):
        named = settings.get("class_path", "")
        if not isinstance(named, str):
            raise UsageError(
                f"{path}: class_path takes the import path of a class, e.g. splitlearn.data.Digits; got {named}"
            )
    if isinstance(settings, (dict, list)):
        for each in settings.values() if isinstance(settings, dict) else settings:
            _check_class_paths(each, path)
