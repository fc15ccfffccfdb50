"""Every command that is not the trainer's: one typed function each, whose docstring is its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splitlearn.cli.messages import UsageError


def profile(
    model: str,
    input: str = "3,224,224",
    weights: str | None = None,
    out: Path | None = None,
    depth: int = 1,
) -> None:
    """Show for every module of a network what a cut after it would send and what the device would compute.

    Args:
        model: resnet20, torchvision/resnet50, timm/…, ultralytics/yolov8n, or an import path of your own.
        input: shape of one image, e.g. 3,224,224.
        weights: a weights file, or the library's name for its weights; the profile does not depend on them.
        out: folder for profile.csv and profile.png; by default runs/profile/MODEL.
        depth: modules with more dots in their name than this are left out.
    """
    from splitlearn.analysis import profile_command

    profile_command(model, _shape(input), weights, out or Path("runs/profile") / model.replace("/", "_"), depth)


def export(ckpt_path: Path, out: Path, results: Path | None = None, licence: str = "not stated") -> None:
    """Write what a checkpoint has trained, bottleneck or whole network, into one self-describing safetensors file.

    Args:
        ckpt_path: checkpoint that `splitlearn fit` left.
        out: folder for bottleneck.safetensors or network.safetensors, and its record.
        results: results.json of a test run, whose metrics go into file and record.
        licence: licence of the weights, and whose they are; goes into the record.
    """
    from splitlearn.deploy import export_command

    export_command(ckpt_path, out, results, licence)


COMMANDS: dict[str, Callable[..., None]] = {"profile": profile, "export": export}


def run_function(function: Callable[..., None], arguments: list[str]) -> None:
    """Call `function` with the options that follow the command's name.

    Raises:
        argparse.ArgumentError: if the options do not fit its signature.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"splitlearn {arguments[0]}", exit_on_error=False, allow_abbrev=False, description=function.__doc__
    )
    names = parser.add_function_arguments(function, as_positional=False, fail_untyped=True)
    options = parser.parse_args(arguments[1:])
    function(**{name: options[name] for name in names})


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(f"--input takes the shape of one image as C,H,W, e.g. 3,224,224; got {text!r}")
    return shape
