"""`splitlearn analyze`: analyses of the features at a cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.config.options import make_folder

if TYPE_CHECKING:
    from splitlearn.analysis import CutFeatures
    from splitlearn.models import CoderModel


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
    """Analyze the features at a cut: zeros, correlation, entropy, spectrum, relevance, changes in a video.

    Further settings of the config may be given as in splitlearn test, e.g. --model.model.net.at layer1.

    Args:
        words: settings that override the config's, e.g. --model.model.net.at layer1.
        config: a config of splitlearn test with a SplitModel.
        ckpt_path: checkpoint of the config's trained bottleneck; affects only the entropy of its symbols.
        data_root: folder of images, in place of the config's data.root.
        what: comma-separated analyses of coefficients,differences,entropy,spectrum,relevance,video; by default all that
            are possible.
        video: a video file, for differences between its frames.
        images: largest number of test images, evenly spaced over the test set, and of video frames.
        out: folder for CSV files, plots and analyze.json.
    """
    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    from rich.console import Console

    from splitlearn.analysis import cut_features
    from splitlearn.config.images import config_model, spread_batches
    from splitlearn.data.video import VideoError
    from splitlearn.files import write_json
    from splitlearn.reporting.feature_analyses import RUNS, FeatureRun
    from splitlearn.tasks import run_record

    names = None if what is None else what.split(",")
    for name in names or ():
        if name not in RUNS:
            raise UsageError(f"--what has no {name!r}{did_you_mean(name, RUNS)}; it takes {', '.join(RUNS)}")
    if names is not None and ("video" in names) != (video is not None):
        raise UsageError("--video FILE and video in --what go together")
    model, data = config_model(config, ckpt_path, data_root, words)
    make_folder(out)
    chosen = [name for name in RUNS if names is None or name in names]
    try:
        frames = None if video is None else _video_features(model, video, images)
    except VideoError as error:
        raise UsageError(str(error)) from error
    features = cut_features(model, spread_batches(data, images), images) if set(chosen) - {"video"} else None
    console, done = Console(), []
    for name in chosen:
        obstacle = _obstacle(name, model, features, frames)
        if obstacle is not None and names is not None:
            raise UsageError(f"{name} {obstacle}")
        if obstacle is not None:
            console.print(f"{name} left out: it {obstacle}", soft_wrap=True)
            continue
        seen, kind = (frames, "frames") if name == "video" else (features, "images")
        assert seen is not None
        RUNS[name](FeatureRun(model, seen, out, f"{len(seen.crossing[0])} {kind}"))
        done.append(name)
    count = None if features is None else len(features.crossing[0])
    network = {"network": model.net.name, "at": model.net.at}
    write_json(out / "analyze.json", {**run_record(), **network, "images": count, "analyses": done})
    console.print(f"{', '.join(done) or 'nothing'}: CSV files and plots written to {out}", soft_wrap=True)


def _obstacle(name: str, model: CoderModel, features: CutFeatures | None, frames: CutFeatures | None) -> str | None:
    """Return the missing requirement of an analysis, or None.

    Coefficients and entropy take any features. Differences, spectrum and relevance need (C, H, W); spectrum and
    relevance also need a classifier, and spectrum needs labels.
    """
    import torch

    from splitlearn.analysis.spectrum import class_logits

    if name == "video":
        return "needs a video: --video FILE" if frames is None else None
    assert features is not None
    if not features.floats:
        return f"needs floats, and only integers cross at {model.net.at}"
    if name == "entropy" and len(features.crossing[0]) < 2:
        return "needs two images or more, one half to count and the other to code"
    spatial = [t.ndim == 4 for t in features.floats]
    if (name in ("differences", "relevance") and not any(spatial)) or (name == "spectrum" and not all(spatial)):
        shapes = ", ".join(str(tuple(t.shape[1:])) for t in features.floats)
        return f"needs features (C, H, W), and {shapes} crosses at {model.net.at}: cut earlier"
    if name in ("spectrum", "relevance"):
        try:
            with torch.no_grad():
                class_logits(model.net.tail(*(t[:2].clone() for t in features.crossing)))
        except ValueError as error:
            return str(error).removeprefix("this analysis ")
    if name == "spectrum" and features.labels is None:
        return "needs images that are labelled with one class each"
    return None


def _video_features(model: CoderModel, video: Path, frames: int) -> CutFeatures:
    """Return the features of consecutive frames, scaled and cropped to the network's input size."""
    import torch

    from splitlearn.analysis import cut_features
    from splitlearn.data.video import read_video

    channels, *size = model.net.input_shape
    if channels != 3 or len(size) != 2:
        raise UsageError(f"video needs a network of colour images, and this one takes {model.net.input_shape}")
    images = read_video(video, (size[0], size[1]), frames)
    return cut_features(model, ((batch, None) for batch in torch.split(images, 16)), frames)
