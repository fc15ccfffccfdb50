"""`splitlearn profile`."""

from __future__ import annotations

import math
from pathlib import Path

from splitlearn.config.options import numbers


def profile(
    model: str,
    input: str = "3,224,224",
    weights: str | None = None,
    out: Path | None = None,
    depth: int | None = None,
    at: str | None = None,
) -> None:
    """Show the bytes to send and the device's computation for a cut after every module of a network.

    Also shows whether a cut sends less than the image.

    Args:
        model: resnet20, torchvision/resnet50, timm/…, ultralytics/yolov8n, faster_rcnn/resnet18, mask_rcnn/…, or
            the import path of your own network.
        input: shape of one image, e.g. 3,224,224.
        weights: a weights file, or the library's name for its weights; the profile does not depend on them.
        out: folder for profile.csv and profile.png; by default runs/profile/MODEL.
        depth: largest number of dots in names of shown modules; by default 1, and the core modules of R-CNN detectors.
        at: names of modules to show instead, e.g. layer3.5,layer4.1.
    """
    takes = "the shape of one image as C,H,W, e.g. 3,224,224"
    shape = tuple(numbers("--input", input, takes, int, lambda sizes: len(sizes) == 3 and min(sizes) > 0))
    from rich.console import Console

    from splitlearn.analysis import core_modules, profile_model
    from splitlearn.analysis.detector_profile import is_rcnn
    from splitlearn.analysis.profile import smaller_cut
    from splitlearn.models import backbone
    from splitlearn.reporting.advice import advice
    from splitlearn.reporting.profile import profile_legend, profile_table, write_profile
    from splitlearn.reporting.terminal import print_whole

    folder = out or Path("runs/profile") / model.replace("/", "_")
    network, names = backbone(model, weights), None if at is None else at.split(",")
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
