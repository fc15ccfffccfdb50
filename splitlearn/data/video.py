"""Reading of consecutive frames of a video file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from splitlearn.decoding import DataError, video_frames_in


class VideoError(ValueError):
    """A video cannot be used; the message names the file and the remedy."""


def read_video(path: str | Path, size: tuple[int, int], frames: int) -> Tensor:
    """Return the first frames of a video, upright, scaled to cover the size and cropped at the centre.

    Args:
        path: path of a video file that FFmpeg can decode.
        size: height and width of the images.
        frames: largest number of frames.

    Returns:
        float32 `(T, 3, H, W)` in [0, 1], T at least 2.

    Raises:
        VideoError: as `video_frames`, or if the video has fewer than two frames.
    """
    if frames < 2 or min(size) < 1:
        raise VideoError(
            f"differences need two or more frames (--images 2) of at least one pixel, got {frames} of {size}"
        )
    images = [_fit(pixels, size) for pixels, _ in islice(video_frames(path), frames)]
    if len(images) < 2:
        raise VideoError(f"{path} has {len(images)} frame(s), but differences need two or more: use a longer video")
    return torch.stack(images)


def video_frames(path: str | Path) -> Iterator[tuple[Tensor, float]]:
    """Yield the frames of a video in the order in which they are shown, each with the seconds for which it is shown.

    Frames come in their own sizes, which may change within a video. A frame is shown until the next one; the last one
    for as long as the file says, or else as the one before.

    Args:
        path: path of a video file that FFmpeg can decode.

    Yields:
        uint8 `(H, W, 3)`, RGB and upright, and seconds.

    Raises:
        VideoError: if the file is absent, no video, damaged or truncated within a frame, has a rotation by other than
            quarter turns, or PyAV is not installed.
    """
    if not Path(path).is_file():
        raise VideoError(f"no video at {path}")
    shown = 0.0
    before: _Decoded | None = None
    for frame in _decoded(path):
        if before is not None:
            shown = before.until(frame)
            yield before.pixels, shown
        before = frame
    if before is not None:
        yield before.pixels, before.seconds or shown


@dataclass(frozen=True)
class _Decoded:
    """A frame, its time if it has one, and the seconds for which its file says that it is shown, 0 if it does not."""

    pixels: Tensor
    time: float | None
    seconds: float

    def until(self, after: _Decoded) -> float:
        """Return the seconds until the next frame."""
        if self.time is None or after.time is None:
            return self.seconds
        return max(0.0, after.time - self.time)


def _decoded(path: str | Path) -> Iterator[_Decoded]:
    try:
        import av  # of the extra `video`
    except ImportError as error:
        raise VideoError("reading a video needs PyAV: pip install 'splitlearn[video]'") from error
    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video stream")
            rate = container.streams.video[0].average_rate
            for frame in video_frames_in(container):
                pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                said = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
                yield _Decoded(_upright(pixels, _matrix(frame), path), frame.time, said or float(1 / (rate or 1)))
                number += 1
    except (av.FFmpegError, UnicodeError, DataError) as error:
        raise VideoError(_damaged(path, number, str(error))) from error


def _damaged(path: str | Path, number: int, reason: str) -> str:
    return f"{path} is no video, or is damaged after frame {number}: name another ({reason})"


def _matrix(frame: Any) -> tuple[int, ...]:
    """Return a, b, c, d of the display matrix of a frame: x' = ax + cy and y' = bx + dy."""
    found = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]  # `rotation` has no mirrors
    a, b, _, c, d, *_ = struct.unpack("=9i", found[0]) if found else (1, 0, 0, 0, 1)
    return a, b, c, d


def _upright(pixels: Tensor, matrix: tuple[int, ...], path: str | Path) -> Tensor:
    """Return upright pixels `(H, W, 3)`; phones store rotated pictures with their rotation."""
    a, b, c, d = matrix
    if a and d and not (b or c):
        along, down = a, d
    elif b and c and not (a or d):
        pixels, along, down = pixels.transpose(0, 1), c, b
    else:
        raise VideoError(f"{path} has a rotation by other than quarter turns: save it upright")
    return pixels.flip([axis for axis, sign in enumerate((down, along)) if sign < 0])


def _fit(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return uint8 pixels `(H, W, 3)` as a float image that covers the size, cropped at the centre."""
    image = pixels.permute(2, 0, 1)[None].float() / 255
    scale = max(new / old for new, old in zip(size, image.shape[2:], strict=True))
    covering = [max(new, round(scale * old)) for new, old in zip(size, image.shape[2:], strict=True)]
    scaled = functional.interpolate(image, covering, mode="bilinear", antialias=True, align_corners=False)
    top, left = ((large - new) // 2 for large, new in zip(covering, size, strict=True))
    return scaled[0, :, top : top + size[0], left : left + size[1]].clamp(0, 1)
