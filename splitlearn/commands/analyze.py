"""`splitlearn analyze`: what features at a cut are like; for each analysis a table, CSV files and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from splitlearn.analysis.features import CutFeatures, cut_features
from splitlearn.analysis.spectrum import class_logits
from splitlearn.data.video import read_video
from splitlearn.files import write_json
from splitlearn.models import SplitModel
from splitlearn.reporting.feature_analyses import RUNS, FeatureRun

ANALYSES = tuple(RUNS)


class AnalysisError(ValueError):
    """An analysis that was asked for and cannot be made of these features; the message says what it needs."""


def analyze_command(
    model: SplitModel,
    batches: Iterable[Any],
    images: int,
    what: Sequence[str] | None,
    video: Path | None,
    out: Path,
    about: Mapping[str, Any],
) -> None:
    """Analyse features at a cut; print tables, write CSV files, plots and analyze.json to `out`.

    Coefficients and entropy take any features; differences, spectrum and relevance need (C, H, W); spectrum and
    relevance a classifier, spectrum its labels besides.

    Args:
        model: in eval mode.
        batches: (images in [0, 1], labels); not touched if only the video is analysed.
        images: how many images, or frames of the video, at most.
        what: of `ANALYSES`; None takes all that apply and says which don't, and why.
        video: a video file, or None.
        out: folder, made if absent.
        about: machine, versions, command, date: goes into analyze.json.

    Raises:
        AnalysisError: if an analysis in `what` does not apply.
        ValueError: if features hold NaN or infinity, or there are no images.
        VideoError: if the video cannot be used.
    """
    chosen = [name for name in ANALYSES if what is None or name in what]
    frames = None if video is None else _video_features(model, video, images)
    features = cut_features(model, batches, images) if set(chosen) - {"video"} else None
    console = Console()
    done = []
    for name in chosen:
        obstacle = _obstacle(name, model, features, frames)
        if obstacle is not None and what is not None:
            raise AnalysisError(f"{name} {obstacle}")
        if obstacle is not None:
            console.print(f"{name} left out: it {obstacle}", soft_wrap=True)
            continue
        seen, kind = (frames, "frames") if name == "video" else (features, "images")
        assert seen is not None
        RUNS[name](FeatureRun(model, seen, out, f"{len(seen.crossing[0])} {kind}"))
        done.append(name)
    count = None if features is None else len(features.crossing[0])
    record = {**about, "network": model.net.name, "at": model.net.at, "images": count, "analyses": done}
    write_json(out / "analyze.json", record)
    console.print(f"{', '.join(done) or 'nothing'}: CSV files and plots written to {out}", soft_wrap=True)


def _obstacle(name: str, model: SplitModel, features: CutFeatures | None, frames: CutFeatures | None) -> str | None:
    """Return what an analysis needs and does not find, or None."""
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


def _video_features(model: SplitModel, video: Path, frames: int) -> CutFeatures:
    """Return the features of consecutive frames, scaled and cropped to the images that the network takes."""
    channels, *size = model.net.input_shape
    if channels != 3 or len(size) != 2:
        raise AnalysisError(f"video needs a network of colour images, and this one takes {model.net.input_shape}")
    images = read_video(video, (size[0], size[1]), frames)
    return cut_features(model, ((batch, None) for batch in torch.split(images, 16)), frames)
