"""`splitlearn calibrate`: calibration of quantizers and code tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitlearn.config.messages import UsageError
from splitlearn.config.options import instance, make_folder, numbers

if TYPE_CHECKING:
    from splitlearn.deploy import Calibration

HEADER = """# Calibrated quantizers and code tables, written by splitlearn calibrate.
# Launch:  splitlearn test --config configs/trainer.yaml --config {path}
"""


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
    video: Path | None = None,
    frames: int = 250,
    margin: float = 0.0,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Calibrate clipped levels and code tables for a network from a few images without labels; nothing is retrained.

    Further settings of the config may be given as in splitlearn test, e.g. --model.model.net.at layer1.

    Args:
        words: settings that override the config's, e.g. --model.model.net.at layer1.
        config: a config of splitlearn test with a SplitModel; its quantizer and codec are replaced.
        out: safetensors file for clipping limits, levels and tables. A config for splitlearn test (.yaml) is written
            beside it.
        levels: number of levels of the quantizer, 2 to 256.
        limits: rule for the clipping limits: LeastError (measured), LaplaceLimits (from a model), ReluLimits (closed
            form), or the import path of your own rule.
        slope: for LaplaceLimits, slope of the activation before the cut for negative inputs: 0 for ReLU, e.g. 0.1 for
            leaky ReLU.
        per_channel: clipping limits for each channel, instead of one pair per tensor.
        stretch: factors to try, e.g. 0.7,1,1.4,2; each multiplies the distance from the latent's mean to the limits.
            The factor with the smallest distance of predictions + rate_weight * bits per element is chosen.
        rate_weight: how much distance of predictions one bit per element is worth (nats for classifiers).
        entropy_weight: share of the latents' variance that one bit per element is worth, e.g. 0.05, for levels with
            uneven spacing; by default levels are evenly spaced.
        lengths: rule for the bits of each symbol with --entropy_weight: IdealLengths, TruncatedUnaryLengths, or an
            import path.
        codec: class of the codec, whose static tables are fitted, or an import path.
        images: number of images.
        photos: folder of images to calibrate with; by default the config's validation images.
        video: a video like those that are to be sent: tables are fitted to its frames, key frames and others, in place
            of the images; limits and levels still come from these.
        frames: with --video, most frames of it, from the first one on.
        margin: with --video, the margin 0…0.5 with which frames will be sent (splitlearn send --margin).
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
    if slope is not None and not limits.endswith("LaplaceLimits"):
        raise UsageError(f"--slope goes with --limits LaplaceLimits, got {limits}")
    if frames < 2:
        raise UsageError(f"--frames must be at least 2, since frames are coded beside the one before, got {frames}")
    if video is None and margin:
        raise UsageError("--margin goes with --video FILE")
    takes = "positive numbers, e.g. 0.7,1,1.4"
    factors = numbers("--stretch", stretch, takes, float, lambda several: all(0 < f < math.inf for f in several))
    from splitlearn import codecs, deploy, quantizers
    from splitlearn.config.build import config_settings
    from splitlearn.config.images import config_model, validation_images
    from splitlearn.data import read_photos, video_batches
    from splitlearn.models import StreamModel

    settings = deploy.CalibrationSettings(
        levels=levels,
        limits=instance("limits", limits, quantizers, quantizers.Limits, **({} if slope is None else {"slope": slope})),
        per_channel=per_channel,
        stretches=factors,
        rate_weight=rate_weight,
        entropy_weight=entropy_weight,
        lengths=instance("lengths", lengths, quantizers, quantizers.CodeLengths),
        codec=instance("codec", codec, codecs, codecs.Codec),
    )
    model, data = config_model(config, ckpt_path, data_root, words)
    pictures = validation_images(data, images) if photos is None else read_photos(photos, data.eval_view(), images)
    make_folder(out, file=True)
    found = deploy.calibrate(model, pictures, settings)
    if video is not None:
        stream = StreamModel(found.model, margin)
        found = replace(found, model=stream.fitted([video_batches(video, data.eval_view(), frames)]).model)
    _report(found, out, config_settings(config, data_root, words))


def _report(found: Calibration, out: Path, config: Mapping[str, Any]) -> None:
    """Print all trials; write the calibrated model and a config for its test."""
    from rich.console import Console

    from splitlearn.deploy import export_bottleneck
    from splitlearn.reporting.calibration import calibration_table
    from splitlearn.reporting.terminal import print_whole

    metrics = {
        "calibration/images": found.images,
        "calibration/stretch": found.chosen.stretch,
        "calibration/distance": found.chosen.distance,
        "calibration/bits_per_element": found.chosen.bits_per_element,
        "calibration/bytes_per_image": found.chosen.bytes_per_image,
    }
    export_bottleneck(found.model, out, metrics)
    console = Console()
    print_whole(calibration_table(found))
    for quantizer in found.model.coder.quantizers:
        console.print(str(quantizer), soft_wrap=True)
    size = f"{found.model.table_bytes:,} bytes of levels and tables, sent once"
    console.print(f"{out} written ({size}); {_config_beside(out, config)}", soft_wrap=True)


def _config_beside(out: Path, config: Mapping[str, Any]) -> str:
    """Write a config for a test of the calibrated model; return a message about it."""
    from splitlearn.config.export_config import settings_to_test, write_config

    try:
        found = settings_to_test(config, "splitlearn.deploy.load_bottleneck", out, f"calibrated_{out.stem}")
    except ValueError as error:
        return f"no config for a test, since {error}: configs/cohen2020/resnet32_layer2.yaml is an example"
    launch = out.with_suffix(".yaml")
    write_config(launch, HEADER.format(path=launch), found)
    return f"config for a test: {launch}"
