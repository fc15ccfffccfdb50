r"""Rebuild docs/results/streams: videos as streams of features, against every frame by itself and against video codecs.

YOLOv8n cut at `model.4`, MobileNetV2 at `features.6`: a static camera and other videos that are named, a camera that
moves over photographs, unrelated images, and a still with noise. Levels and limits are calibrated on photographs;
margins are chosen on frames that are not scored. Finished points are kept in runs/streams, and a killed run goes on.

    scripts/papers/streams/run --coco FOLDER --yolo FILE --mobilenet FILE --static FILE [--video FILE …]

coco: images/{train,val}2017; yolo: weights of YOLOv8n; mobilenet: TensorFlow's MobileNetV2 as safetensors; static: a
video of a static camera. Trained bottlenecks at these cuts lie in checkpoints/photographs; others are added by their
files, --mobilenet-bottleneck FILE or --yolo-bottleneck FILE.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from scripts.papers.common.runs import kept, refuse_other_settings
from scripts.papers.streams.footage import Scene, moving_scene, unrelated_scene, video_scene
from scripts.papers.streams.networks import TILED_LEVELS, Cut, Footage, Network, Prepared
from scripts.papers.streams.points import ALONE, CHOICE, KNOWN, NEXT, STICKY, STILL, StreamPoint, as_video, streamed
from scripts.papers.streams.report import report
from splitlearn.codecs import ContextRANS
from splitlearn.models import CoderModel, PixelVideo, StreamModel, TiledVideo, VideoCodec, YoloBoxes
from splitlearn.tasks import BoxAgreement, ClassAgreement

RUNS = Path("runs/streams")
OUT = Path("docs/results/streams")
SHIPPED = Path("checkpoints/photographs")
LEVELS = (4, 8)
MARGINS = (0.05, 0.1, 0.15, 0.3)
TILED = {"H265": (20, 24, 28), "H264": (24,)}
FASTEST = {"H265": (24, 28)}  # with x265's fastest preset
PIXELS = {"H265": (22, 28, 34), "H264": (24,)}
NOISES = (0.0, 0.5, 1.0)  # standard deviation, in grey levels
SKIPPED = 0.02  # share of symbols whose change is not worth a frame, for the still


class Points:
    """Points of a network and a scene, each kept in a file of its own.

    Raises ValueError if the folder's points were measured with other settings.
    """

    def __init__(self, network: Network, scene: Scene, cut: Callable[[], Cut]) -> None:
        self.folder = RUNS / f"{network.slug}_{scene.slug}"
        mine = {
            "config": Path(network.config).read_text(),
            "overrides": [Path(word).name for word in network.overrides],
            "photos": network.photos_count,
            "scene": scene.about,
        }
        refuse_other_settings(self.folder, mine)
        self._prepared = cache(lambda: Prepared(cut(), scene))

    def add(self, name: str, make: Callable[[Prepared], StreamPoint]) -> None:
        """Keep the point that `make` returns in a file of this name, unless it is there."""

        def told() -> dict[str, Any]:
            point = make(self._prepared())
            score = f"{100 * point.agreement:.1f} %, {point.bytes_per_frame:,.0f} B"
            print(f"{self.folder.name}: {point.method}, {point.setting}: {score}", flush=True)
            return asdict(point)

        kept(self.folder / f"{name}.json", told)


def measure(network: Network, scene: Scene, cut: Callable[[], Cut]) -> None:
    """Measure all points of a network, which `cut` makes if it is needed, and a scene that are not there yet."""
    points = Points(network, scene, cut)
    for levels in LEVELS:
        make = partial(Cut.calibrated, levels=levels)
        add_streams(points, scene, f"{levels}_levels", f"{levels} levels", make)
    for path in network.trained:
        make = partial(Cut.bottleneck, path=path)
        add_streams(points, scene, path.stem, f"trained, {path.stem}", make)
    if not scene.rivals:
        return
    for format, qualities in TILED.items():
        for quality in qualities:
            points.add(f"tiled_{format}_{quality}", partial(tiled, format=format, quality=quality, preset="medium"))
    for format, qualities in FASTEST.items():
        for quality in qualities:
            points.add(f"tiled_fast_{quality}", partial(tiled, format=format, quality=quality, preset="ultrafast"))
    for format, qualities in PIXELS.items():
        for quality in qualities:
            points.add(f"pixels_{format}_{quality}", partial(pixels, format=format, quality=quality))


Make = Callable[[Cut], CoderModel]


def add_streams(points: Points, scene: Scene, name: str, setting: str, make: Make) -> None:
    """Add every frame by itself, the frame before as reference, and sticky symbols."""
    points.add(f"{name}_alone", partial(alone, setting=setting, make=make, asked=scene.rivals))
    for margin in (0.0, *MARGINS) if scene.rivals else (0.0,):
        told = f"{setting}, margin {margin:g}" if margin else setting
        sticky = partial(beside, setting=told, make=make, margin=margin)
        points.add(f"{name}_{margin:g}", partial(sticky, asked=scene.rivals))
        if scene.rivals:
            points.add(f"{name}_{margin:g}_choice", partial(sticky, part="chosen_on", asked=True))
            points.add(f"{name}_{margin:g}_known", partial(sticky, known=True, asked=True))
            for noise in NOISES:
                points.add(f"{name}_{margin:g}_still_{noise:g}", partial(still_frames, sticky=sticky, noise=noise))


def alone(prepared: Prepared, setting: str, make: Make, asked: bool) -> StreamPoint:
    """Every frame by itself, with ContextRANS."""
    model = StreamModel(with_contexts(make(prepared.cut)), key_every=1)
    return streamed(prepared, prepared.scored, model, ALONE, setting, asked=asked)


def beside(
    prepared: Prepared,
    setting: str,
    make: Make,
    margin: float,
    asked: bool,
    part: str = "scored",
    known: bool = False,
    footage: Footage | None = None,
    skip: float = 0.0,
) -> StreamPoint:
    """Frames beside the one before."""
    model = StreamModel(with_contexts(make(prepared.cut)), margin, skip=skip)
    if known:
        model = model.fitted([[features] for features in prepared.chosen_on.features])
    method = (STICKY if margin else NEXT) + (KNOWN if known else "")
    method = CHOICE if part == "chosen_on" else method
    shown = getattr(prepared, part) if footage is None else footage
    return streamed(prepared, shown, model, method, setting, asked=asked)


def still_frames(prepared: Prepared, sticky: Callable[..., StreamPoint], noise: float) -> StreamPoint:
    """One frame again and again, with noise."""
    point = sticky(prepared, footage=prepared.still(noise), skip=SKIPPED, asked=False)
    return StreamPoint(**asdict(point) | {"method": STILL, "setting": f"{point.setting}, noise {noise:g}"})


def with_contexts(model: CoderModel) -> CoderModel:
    """Return a model whose payloads hold the tables of ContextRANS."""
    quantizers = model.coder.quantizers
    return model.coded_by(quantizers, [ContextRANS() for _ in quantizers])


def tiled(prepared: Prepared, format: str, quality: int, preset: str) -> StreamPoint:
    """The features as video."""
    model = TiledVideo(prepared.cut.calibrated(TILED_LEVELS), VideoCodec(format, quality, preset))
    method = f"{format} on tiled features" + (", ultrafast" if preset != "medium" else "")
    return as_video(prepared, prepared.scored, model, method, f"crf {quality}", of_pixels=False)


def pixels(prepared: Prepared, format: str, quality: int) -> StreamPoint:
    """The images as video, and the whole network on the server."""
    network = Whole(prepared.model).eval()
    model = PixelVideo(network, VideoCodec(format, quality))
    return as_video(prepared, prepared.scored, model, f"{format} of the pixels", f"crf {quality}", of_pixels=True)


class Whole(torch.nn.Module):
    """A cut network put together again, with its normalization."""

    def __init__(self, model: CoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        """Return the prediction."""
        return self.model.net.tail(*self.model.features(images))


def networks(options: argparse.Namespace) -> Iterator[Network]:
    """Yield the networks whose weights are named."""
    photos, at = options.coco / "images/train2017", "--model.model.net.model"
    if options.yolo:
        yield Network(
            "YOLOv8n model.4",
            "configs/carra2023/yolov8n_model4.yaml",
            (f"{at}.weights", str(options.yolo)),
            photos,
            12,
            lambda task: BoxAgreement(80, YoloBoxes()),
            "agreement_50",
            "boxes, mAP at IoU 0.5 (%)",
            tuple(options.yolo_bottleneck) or shipped("yolov8n_*"),
        )
    if options.mobilenet:
        yield Network(
            "MobileNetV2 features.6",
            "configs/carra2023/mobilenet_v2.yaml",
            (at, "splitlearn.models.mobilenet_v2_same", f"{at}.weights", str(options.mobilenet)),
            photos,
            32,
            lambda task: ClassAgreement(),
            "agreement",
            "same class (%)",
            tuple(options.mobilenet_bottleneck) or shipped("mobilenet_v2_imagenet_sample_*"),
        )


def shipped(names: str) -> tuple[Path, ...]:
    """Return trained bottlenecks of the project."""
    return tuple(sorted(SHIPPED.glob(f"{names}.safetensors")))


def scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """Yield what the named files allow to measure."""
    if options.static:
        yield video_scene(options.static, options.frames, "static camera")
    for path in options.video:
        yield video_scene(path, options.frames, path.stem)
    yield moving_scene(options.coco / "images/val2017", options.frames)
    yield unrelated_scene(options.coco / "images/val2017", min(24, options.frames))


def main() -> None:
    """Measure what is missing, and write page, JSON, CSV and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True, help="images/train2017 to calibrate with, images/val2017")
    parser.add_argument("--yolo", type=Path, help="weights of YOLOv8n")
    parser.add_argument("--mobilenet", type=Path, help="TensorFlow's MobileNetV2 as safetensors")
    parser.add_argument("--static", type=Path, help="a video of a static camera")
    parser.add_argument("--video", type=Path, nargs="*", default=[], help="further videos")
    parser.add_argument("--frames", type=int, default=120, help="most frames that are scored of each scene")
    parser.add_argument("--yolo-bottleneck", type=Path, nargs="*", default=[], help="trained bottlenecks of YOLOv8n")
    parser.add_argument("--mobilenet-bottleneck", type=Path, nargs="*", default=[], help="likewise of MobileNetV2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, shown = list(networks(options)), list(scenes(options))
    if not found:
        parser.error("name a network's weights: --yolo FILE or --mobilenet FILE")
    if options.frames < 10:
        parser.error("--frames is at least 10")
    cuts = [cache(partial(Cut, network)) for network in found]
    for scene in shown:
        for network, cut in zip(found, cuts, strict=True):
            measure(network, scene, cut)
    report(found, shown, RUNS, OUT)
