"""Every command that is not the trainer's: one typed function each, whose docstring is its help."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from splitlearn.commands.bank import bank
from splitlearn.commands.exits import exits, stages
from splitlearn.commands.sweep import pareto, sweep
from splitlearn.config.instances import instance
from splitlearn.config.messages import UsageError, did_you_mean

if TYPE_CHECKING:
    from splitlearn.codecs import Codec

T = TypeVar("T")


def profile(
    model: str,
    input: str = "3,224,224",
    weights: str | None = None,
    out: Path | None = None,
    depth: int | None = None,
    at: str | None = None,
) -> None:
    """Show for every module of a network what a cut after it would send and what the device would compute.

    And whether one sends less than the image.

    Args:
        model: resnet20, torchvision/resnet50, timm/…, ultralytics/yolov8n, faster_rcnn/resnet18, mask_rcnn/…, or
            an import path of your own.
        input: shape of one image, e.g. 3,224,224.
        weights: a weights file, or the library's name for its weights; the profile does not depend on them.
        out: folder for profile.csv and profile.png; by default runs/profile/MODEL.
        depth: modules with more dots in their name than this are left out; by default the core modules of an R-CNN
            detector are shown, and of other networks those with one dot at most.
        at: names of modules to show in place of these, e.g. layer3.5,layer4.1.
    """
    from splitlearn.commands.profile import profile_command

    folder = out or Path("runs/profile") / model.replace("/", "_")
    profile_command(model, _shape(input), weights, folder, depth, None if at is None else at.split(","))


def export(
    ckpt_path: Path,
    out: Path,
    results: Path | None = None,
    licence: str = "not stated",
    config: Path | None = None,
    trust: bool = False,
) -> None:
    """Write what a checkpoint has trained, bottleneck or whole network, into one self-describing safetensors file.

    Args:
        ckpt_path: checkpoint that `splitlearn fit` left.
        out: folder for bottleneck.safetensors, network.safetensors or student.safetensors, and its record.
        results: results.json of a test run, whose metrics go into file and record.
        licence: licence of the weights, and whose they are; goes into the record.
        config: that it was trained with, such as the config.yaml of its run; needed if it names classes of your own.
        trust: take the config that the checkpoint holds, whatever classes it names: they are imported and run.
    """
    from splitlearn.commands.export import export_command

    settings: Mapping[str, Any] | None = None
    if config is not None:
        from splitlearn.config.build import config_settings

        settings = config_settings(config, None)
    elif trust:
        from splitlearn.tasks.loading import config_of, read_checkpoint

        settings = config_of(read_checkpoint(ckpt_path), ckpt_path)
    export_command(ckpt_path, out, results, licence, settings)


def codecs(
    words: Sequence[str] = (),
    activations: Path | None = None,
    key: str | None = None,
    bits: str | None = None,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
    images: int = 49,
    rounds: int = 11,
    codec: str | None = None,
    out: Path = Path("runs/codecs"),
) -> None:
    """Compare all codecs on activations: bytes, bytes over entropy, throughput; each code is decoded and checked.

    Settings of the config may follow, as in splitlearn test: --model.model.net.at layer1.

    Args:
        words: these settings.
        activations: a .npy or .safetensors file of floats, (B, C, H, W) say; half of them fit static tables.
        key: name of the tensor in a safetensors file; needed only if there are several.
        bits: n of the min–max quantizers that activations are tried with; by default 2,3,4,6,8.
        config: in place of activations, a config of splitlearn test: its latents, through its own quantizer. For
            several files and overrides together, the config.yaml that a run has left in its folder.
        ckpt_path: checkpoint of the config's trained bottleneck.
        data_root: folder of images, in place of the config's data.root.
        images: how many to measure at most; as many more fit static tables.
        rounds: how often each image is coded; its best time counts. Slow codecs get fewer.
        codec: import path of a codec of your own, to be set beside the others.
        out: folder for codecs.json, codecs.csv and codecs.png.
    """
    if (activations is None) == (config is None):
        raise UsageError("codecs takes either --activations FILE or --config FILE")
    if activations is None and (key is not None or bits is not None):
        raise UsageError("--key and --bits go with --activations FILE: a config has a quantizer of its own")
    if config is None and (ckpt_path is not None or data_root is not None):
        raise UsageError("--ckpt_path and --data_root go with --config FILE")
    if images < 1 or rounds < 1:
        raise UsageError(f"--images and --rounds must be at least 1, got {images} and {rounds}")
    numbers = _bits(bits or "2,3,4,6,8")
    from splitlearn.analysis import Activations, ActivationsError, read_activations
    from splitlearn.commands.codecs import codecs_command
    from splitlearn.numpy_quantizers import MinMaxGrid
    from splitlearn.tasks import run_record

    if activations is not None:
        try:
            latents = read_activations(activations, key, 2 * images)
        except ActivationsError as error:
            raise UsageError(str(error)) from error
        sources = {activations.name: Activations(latents, [MinMaxGrid(n) for n in numbers])}
    elif config is not None:
        from splitlearn.config.latents import config_latents

        sources = config_latents(config, ckpt_path, data_root, 2 * images, words)
    more = {} if codec is None else _codec(codec)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error.strerror}") from error
    codecs_command(sources, images, rounds, out, run_record(), more)


def analyze(
    words: Sequence[str],
    config: Path,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
    what: str | None = None,
    video: Path | None = None,
    images: int = 100,
    out: Path = Path("runs/analyze"),
) -> None:
    """Show what the features at a cut are like: zeros, correlation, entropy, spectrum, relevance, changes in a video.

    Settings of the config may follow, as in splitlearn test: --model.model.net.at layer1.

    Args:
        words: these settings.
        config: a config of splitlearn test, whose model is a SplitModel.
        ckpt_path: checkpoint of the config's trained bottleneck; only the entropy of its own symbols depends on it.
        data_root: folder of images, in place of the config's data.root.
        what: of coefficients,differences,entropy,spectrum,relevance,video; by default all that apply.
        video: a video file, for differences between its frames.
        images: how many test images, spread evenly over the test set, and frames to take at most.
        out: folder for CSV files, plots and analyze.json.
    """
    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    from splitlearn.commands.analyze import ANALYSES, AnalysisError, analyze_command
    from splitlearn.config.images import config_images
    from splitlearn.data.video import VideoError
    from splitlearn.tasks import run_record

    names = None if what is None else what.split(",")
    for name in names or ():
        if name not in ANALYSES:
            raise UsageError(f"--what has no {name!r}{did_you_mean(name, ANALYSES)}; it takes {', '.join(ANALYSES)}")
    if names is not None and ("video" in names) != (video is not None):
        raise UsageError("--video FILE and video in --what go together")
    model, batches = config_images(config, ckpt_path, data_root, images, words)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error.strerror}") from error
    try:
        analyze_command(model, batches, images, names, video, out, run_record())
    except (AnalysisError, VideoError) as error:
        raise UsageError(str(error)) from error


def calibrate(
    words: Sequence[str],
    config: Path,
    out: Path,
    levels: int = 4,
    limits: str = "LeastError",
    slope: float | None = None,
    per_channel: bool = True,
    stretch: str = "1",
    rate_weight: float = 0.0,
    entropy_weight: float | None = None,
    lengths: str = "IdealLengths",
    codec: str = "ContextRANS",
    images: int = 256,
    photos: Path | None = None,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Learn clipped levels and code tables for a network from a few images without labels; nothing is retrained.

    Settings of the config may follow, as in splitlearn test: --model.model.net.at layer1.

    Args:
        words: these settings.
        config: a config of splitlearn test, whose model is a SplitModel; its own quantizer and codec are replaced.
        out: safetensors file for limits, levels and tables; beside it appears a config for splitlearn test, .yaml.
        levels: N of the quantizer, 2 to 256.
        limits: LeastError (measured), LaplaceLimits (model), ReluLimits (short cut), or an import path of your own.
        slope: of the activation before the cut for negative inputs: 0 for ReLU, 0.1 for a leaky one; for LaplaceLimits.
        per_channel: limits for each channel, instead of one pair for a tensor.
        stretch: factors on the limits to try, e.g. 0.7,1,1.4,2; the best in distance + rate_weight * bits is taken.
        rate_weight: what a bit an element is worth in distance between predictions.
        entropy_weight: weight of the entropy-constrained design, e.g. 0.05; by default levels are uniform.
        lengths: IdealLengths, TruncatedUnaryLengths, or an import path; for the entropy-constrained design.
        codec: class of the codec that gets static tables, or an import path.
        images: how many images to look at.
        photos: folder of images to calibrate with; by default the config's validation images.
        ckpt_path: checkpoint of the config's trained bottleneck.
        data_root: folder of images, in place of the config's data.root.
    """
    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    if not 2 <= levels <= 256:
        raise UsageError(f"--levels must lie in 2…256, got {levels}")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out must be the name of a .safetensors file, got {out}")
    if not all(0 <= weight < math.inf for weight in (rate_weight, entropy_weight or 0.0)):
        weights = f"{rate_weight} and {entropy_weight}"
        raise UsageError(f"--rate_weight and --entropy_weight must be numbers and not negative, got {weights}")
    if entropy_weight is None and not lengths.endswith("IdealLengths"):
        raise UsageError(f"--lengths {lengths} goes with --entropy_weight")
    factors = _factors(stretch)
    from splitlearn import codecs as codec_room
    from splitlearn import quantizers
    from splitlearn.commands.calibrate import calibrate_command
    from splitlearn.config.build import config_settings
    from splitlearn.config.calibration_images import calibration_images
    from splitlearn.deploy import CalibrationSettings

    if slope is not None and not limits.endswith("LaplaceLimits"):
        raise UsageError(f"--slope goes with --limits LaplaceLimits, got {limits}")
    arguments = {} if slope is None else {"slope": slope}
    settings = CalibrationSettings(
        levels=levels,
        limits=instance("limits", limits, quantizers, quantizers.Limits, **arguments),
        per_channel=per_channel,
        stretches=factors,
        rate_weight=rate_weight,
        entropy_weight=entropy_weight,
        lengths=instance("lengths", lengths, quantizers, quantizers.CodeLengths),
        codec=instance("codec", codec, codec_room, codec_room.Codec),
    )
    model, pictures = calibration_images(config, ckpt_path, data_root, photos, images, words)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from error
    calibrate_command(model, pictures, settings, out, config_settings(config, data_root, words))


COMMANDS: dict[str, Callable[..., None]] = {
    "profile": profile,
    "analyze": analyze,
    "calibrate": calibrate,
    "codecs": codecs,
    "exits": exits,
    "stages": stages,
    "export": export,
    "sweep": sweep,
    "pareto": pareto,
    "bank": bank,
}
TRAINER_WORDS = ("--config", "--model", "--data", "--trainer", "--seed_everything")


def run_function(function: Callable[..., None], arguments: list[str]) -> None:
    """Call `function` with the options that follow the command's name.

    A function with an argument `words` is given those that are meant for the trainer's config there.

    Raises:
        argparse.ArgumentError: if the options do not fit its signature.
    """
    from jsonargparse import ArgumentParser

    beside: dict[str, Any] = {}
    if "words" in inspect.signature(function).parameters:
        own = inspect.signature(function).parameters
        beside["words"], others = _divide(arguments[1:], [w for w in TRAINER_WORDS if w.removeprefix("--") not in own])
        arguments = [arguments[0], *others]
    given = [argument.split("=")[0] for argument in arguments[1:] if argument.startswith("--")]
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise UsageError(f"{twice[0]} is given more than once")
    parser = ArgumentParser(
        prog=f"splitlearn {arguments[0]}", exit_on_error=False, allow_abbrev=False, description=function.__doc__
    )
    names = parser.add_function_arguments(function, as_positional=False, fail_untyped=True, skip=set(beside))
    options = parser.parse_args(arguments[1:])
    function(**beside, **{name: options[name] for name in names})


def _divide(options: Sequence[str], trainers_words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are meant for the trainer's config, with their values, and all others."""
    trainers: list[str] = []
    others: list[str] = []
    mine = others
    for word in options:
        if word.startswith("--"):
            mine = trainers if word.split("=")[0].split(".")[0] in trainers_words else others
        mine += word.split("=", 1) if mine is trainers and word.startswith("--") else [word]
    return trainers, others


def _codec(path: str) -> dict[str, Codec]:
    """Return a new codec of the class at an import path, by the class's name."""
    from splitlearn.codecs import Codec

    codec = instance("codec", path, None, Codec)
    return {type(codec).__name__: codec}


def _factors(text: str) -> list[float]:
    try:
        factors = [float(number) for number in text.split(",")]
    except ValueError:
        factors = []
    if not factors or not all(0 < factor < math.inf for factor in factors):
        raise UsageError(f"--stretch takes positive numbers, e.g. 0.7,1,1.4; got {text!r}")
    return factors


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(f"--input takes the shape of one image as C,H,W, e.g. 3,224,224; got {text!r}")
    return shape


def _bits(text: str) -> list[int]:
    try:
        bits = [int(number) for number in text.split(",")]
    except ValueError:
        bits = []
    if not bits or min(bits) < 2 or max(bits) > 8:
        raise UsageError(f"--bits takes numbers 2…8, e.g. 2,3,4; got {text!r}")
    return sorted(set(bits))
