"""`splitlearn profile`: sizes, computation and latencies of the modules of a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError
from splitlearn.config.options import numbers

if TYPE_CHECKING:
    from splitlearn.latencies import LatencyProfile

LATENCIES = "latencies.json"


def profile(
    model: str | None = None,
    input: str = "3,224,224",
    weights: str | None = None,
    out: Path | None = None,
    depth: int | None = None,
    at: str | None = None,
    time: bool = False,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    package: str | None = None,
    data_root: Path | None = None,
    photos: Path | None = None,
    images: int = 16,
    rounds: int = 100,
    threads: int = 1,
) -> None:
    """Show the bytes to send and the device's computation for a cut after every module of a network.

    Also shows whether a cut sends less than the image. With --time, measures latencies on this machine instead: of
    every module, of encoding and decoding by a trained model or package, and of image files. splitlearn plan reads the
    resulting latencies.json.

    Args:
        model: resnet20, torchvision/resnet50, timm/…, ultralytics/yolov8n, faster_rcnn/resnet18, mask_rcnn/…, or
            the import path of your own network.
        input: shape of one image, e.g. 3,224,224.
        weights: a weights file, or the library's name for its weights; the profile does not depend on them.
        out: folder for profile.csv and profile.png, or latencies.json; by default runs/profile/MODEL.
        depth: show modules with at most so many dots in their names; by default 1, or the core modules of R-CNN
            detectors.
        at: names of modules to show instead, e.g. layer3.5,layer4.1.
        time: measure latencies on this machine instead.
        config: config of a trained model to time, in place of model.
        ckpt_path: checkpoint of the config's model.
        package: folder written by splitlearn package, timed as it runs on a device; or several, separated by commas.
        data_root: folder of images, in place of the config's data.root.
        photos: folder of images to time; by default the config's validation images.
        images: number of images to time.
        rounds: number of timed passes.
        threads: number of threads of torch or onnxruntime.
    """
    takes = "the shape of one image as C,H,W, e.g. 3,224,224"
    shape = tuple(numbers("--input", input, takes, int, lambda sizes: len(sizes) == 3 and min(sizes) > 0))
    names = None if at is None else at.split(",")
    if not time:
        if model is None:
            raise UsageError("missing: --model NAME, or --time with --config, --ckpt_path or --package")
        _show_sizes(model, shape, weights, out, depth, names)
        return
    named = [option for option in (model, config or ckpt_path, package) if option is not None]
    if len(named) != 1:
        raise UsageError("--time takes one of --model NAME, --config FILE (with --ckpt_path FILE), --package FOLDER")
    if package is not None and not (depth is None and names is None):
        raise UsageError("a package is timed at its own cut: --depth and --at go with --model or --config")
    from splitlearn.config import timing

    conditions = timing.Conditions(photos, images, rounds, threads)
    if package is not None:
        found = timing.package_latencies([Path(each) for each in package.split(",")], conditions)
    elif model is not None:
        from splitlearn.analysis import profile_model
        from splitlearn.models import backbone, check_name

        network = backbone(model, weights)
        profile_model(network, shape, depth=-1)  # refuses images of another shape in a sentence
        for name in names or ():
            check_name(network, name)
        names = names or timing.module_names(network, depth, set())
        found = timing.network_latencies(network, shape, names, conditions)
    else:
        found = timing.trained_latencies(config, ckpt_path, data_root, names, depth, conditions)
    folder = out or Path("runs/profile") / (model or found.network).replace("/", "_")
    found.write(folder / LATENCIES)
    _tell(found, folder / LATENCIES)


def _tell(found: LatencyProfile, path: Path) -> None:
    """Print latencies; a device without torch times no modules, and has no tables."""
    if found.modules:
        from splitlearn.reporting.latencies import latency_table
        from splitlearn.reporting.terminal import print_whole

        print_whole(latency_table(found))
    else:
        print(f"{found.network}, {found.conditions}")
    for line in found.lines():
        print(line)
    print(f"{path} written")


def _show_sizes(
    model: str, shape: tuple[int, ...], weights: str | None, out: Path | None, depth: int | None, at: list[str] | None
) -> None:
    from rich.console import Console

    from splitlearn.analysis import core_modules, profile_model
    from splitlearn.analysis.detector_profile import is_rcnn
    from splitlearn.analysis.profile import smaller_cut
    from splitlearn.models import backbone
    from splitlearn.reporting.advice import advice
    from splitlearn.reporting.profile import profile_legend, profile_table, write_profile
    from splitlearn.reporting.terminal import print_whole

    folder = out or Path("runs/profile") / model.replace("/", "_")
    network, names = backbone(model, weights), at
    if depth is None and names is None:
        depth, names = (None, core_modules(network)) if is_rcnn(network) else (1, None)
    profiles = profile_model(network, shape, depth, names)
    is_any_smaller = any(p.relative_crossing is not None and p.relative_crossing < 1 for p in profiles)
    elsewhere = None if is_any_smaller else smaller_cut(network, shape, [p.name for p in profiles])
    write_profile(profiles, model, folder)
    size = f"{4 * math.prod(shape) / 1024:,.1f} kB"
    console = Console()
    print_whole(profile_table(profiles, f"{model}, input {'×'.join(map(str, shape))}: {size}"))
    console.print(profile_legend(network, None if names else depth), soft_wrap=True)
    console.print(advice(profiles, elsewhere), soft_wrap=True)
    console.print(f"{folder / 'profile.csv'} and {folder / 'profile.png'} written", soft_wrap=True)
