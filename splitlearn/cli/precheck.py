"""What can be seen wrong in a trainer command before the heavy imports."""

from __future__ import annotations

from pathlib import Path

import yaml

from splitlearn.cli.messages import UsageError, did_you_mean

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
FLAGS = ("-h", "--help", "-c", "--print_config")


def check_trainer_arguments(arguments: list[str]) -> None:
    """Refuse unknown options, missing config files and unknown top-level keys at once.

    Args:
        arguments: command, then options.

    Raises:
        UsageError: one sentence that names the word at fault and the nearest right one.
    """
    command, options = arguments[0], arguments[1:]
    if not options:
        raise UsageError(f"{command} needs a config, e.g. splitlearn {command} --config configs/quickstart.yaml")
    for position, option in enumerate(options):
        if not option.startswith("-") or option.split("=")[0] in FLAGS:
            continue
        key = option.lstrip("-").split("=")[0]
        if option.startswith("--") and key.split(".")[0].rstrip("+") not in (*KEYS, "print_config", "trainer", "model"):
            raise UsageError(f"{command} has no option --{key}{did_you_mean(key, KEYS)}")
        if key == "config":
            _check_config(Path(option.partition("=")[2] or "".join(options[position + 1 : position + 2])))


def _check_config(path: Path) -> None:
    if not path.is_file():
        nearby = [str(p) for p in Path("configs").rglob("*.yaml")]
        raise UsageError(f"no config file {str(path)!r}{did_you_mean(str(path), nearby)}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings; see configs/quickstart.yaml for an example")
    for key in content:
        if str(key) not in KEYS:
            raise UsageError(f"{path} has an unknown key {key!r}{did_you_mean(str(key), KEYS)}")
