"""The frames that scripts/papers/streams measures: videos, a camera that moves over photographs, unrelated images."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from splitlearn.data import VideoError, read_photos, video_frames
from splitlearn.data.finding import find_images
from splitlearn.data.images import View
from splitlearn.decoding import decode_rgb

SPEEDS = (1.0, 2.0, 4.0)  # pixels a frame, of 640 from left to right
ZOOM = 0.002  # of the width of what is seen, a frame and pixel of speed
SEEN = 0.7  # share of a photograph's width and height that the camera sees
LENGTH = 10  # frames over a photograph
SECOND = 25  # frames that a camera over photographs takes in a second
SEED = 0


@dataclass(frozen=True)
class Clip:
    """Consecutive frames as the network takes them.

    Attributes:
        frames: float32 `(T, 3, H, W)` in [0, 1].
        seconds: for which all of them are shown.
    """

    frames: Tensor
    seconds: float


@dataclass(frozen=True)
class Scene:
    """Clips of one kind.

    Attributes:
        name: in tables and file names.
        about: data, a sentence.
        chosen_on: makes the clips that settings are chosen on; none of them is scored.
        scored: makes the clips that are scored.
        rivals: whether video codecs are measured on them.
    """

    name: str
    about: str
    chosen_on: Callable[[View], list[Clip]]
    scored: Callable[[View], list[Clip]]
    rivals: bool = True

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())


def video_scene(path: Path, frames: int, name: str) -> Scene:
    """Return the scene of a video: frames from a third on are scored, settings chosen on the others."""
    count = sum(1 for _ in video_frames(path))
    first = count // 3
    scored = min(frames, first)
    behind = first + scored
    if first < 2:
        raise VideoError(f"{path} has {count} frames, and six are needed to choose settings and to score them")
    return Scene(
        name,
        f"{count} frames; {scored} from frame {first} on are scored, none left out; settings are chosen on the others",
        lambda view: [_part(path, view, 0, first), _part(path, view, behind, count - behind)],
        lambda view: [_part(path, view, first, scored)],
    )


def _part(path: Path, view: View, first: int, frames: int) -> Clip:
    taken = list(islice(video_frames(path), first, first + frames))
    images = torch.stack([_seen(Image.fromarray(pixels.numpy()), view) for pixels, _ in taken])
    return Clip(images, sum(seconds for _, seconds in taken))


def moving_scene(photographs: Path, frames: int) -> Scene:
    """Return the scene of a camera that pans and zooms over photographs, each a clip, at several speeds."""
    files = find_images(photographs)
    count = max(len(SPEEDS), frames // LENGTH)
    if len(files) < 2 * count:
        raise SystemExit(f"{photographs} holds {len(files)} photographs, and {2 * count} are needed")
    others = min(2 * count, len(files) - count)
    about = (
        f"{count} photographs of {photographs.name}, {LENGTH} frames each (seed {SEED}): the camera sees "
        f"{100 * SEEN:.0f} % of the width and height, pans in a drawn direction by "
        f"{', '.join(f'{speed:g}' for speed in SPEEDS)} pixels a frame in turn, of 640 that it sees, and zooms by "
        f"{100 * ZOOM:g} % for each; settings are chosen on {others} other photographs"
    )
    chosen, scored = files[:others], files[len(files) - count :]
    return Scene("moving camera", about, lambda view: list(_pans(chosen, view)), lambda view: list(_pans(scored, view)))


def _pans(files: Sequence[Path], view: View) -> Iterator[Clip]:
    for number, file in enumerate(files):
        draw = random.Random(SEED * 1_000_003 + number)
        angle, zoom = draw.uniform(0, 2 * math.pi), draw.choice((-1, 1))
        crops = _crops(decode_rgb(file), SPEEDS[number % len(SPEEDS)], angle, zoom)
        yield Clip(torch.stack([_seen(crop, view) for crop in crops]), LENGTH / SECOND)


def _crops(image: Image.Image, speed: float, angle: float, zoom: int) -> Iterator[Image.Image]:
    """Yield what the camera sees, resampled from sub-pixel places; it turns around at the borders."""
    for number in range(LENGTH):
        share = SEEN * (1 + zoom * ZOOM * speed * number)
        wide, high = share * image.width, share * image.height
        step = speed * number * SEEN * image.width / 640
        left = _bounced(0.5 * (image.width - wide) + step * math.cos(angle), image.width - wide)
        top = _bounced(0.5 * (image.height - high) + step * math.sin(angle), image.height - high)
        size = round(SEEN * image.width), round(SEEN * image.height)
        yield image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high))


def _bounced(place: float, most: float) -> float:
    around = place % (2 * most)
    return min(around, 2 * most - around)


def unrelated_scene(photographs: Path, frames: int) -> Scene:
    """Return the scene of images that have nothing to do with each other."""
    about = f"{frames} photographs of {photographs.name}, one after the other"

    def scored(view: View) -> list[Clip]:
        images = read_photos(photographs, view, frames)
        return [Clip(images, len(images) / SECOND)]

    return Scene("unrelated images", about, lambda view: [], scored, rivals=False)


def still(clip: Clip, noise: float, frames: int = 8) -> Clip:
    """Return a clip of its first frame, with noise of a camera: a standard deviation in grey levels of 255."""
    draws = torch.Generator().manual_seed(SEED)
    image = clip.frames[:1].expand(frames, -1, -1, -1)
    noisy = (image * 255 + noise * torch.randn(image.shape, generator=draws)).round() / 255
    return Clip(noisy.clamp(0, 1), frames / SECOND)


def _seen(image: Image.Image, view: View) -> Tensor:
    seen: Tensor = pil_to_tensor(view(image)).float() / 255
    return seen
