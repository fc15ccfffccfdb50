"""Consecutive frames of a video file, as images for a network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional


class VideoError(ValueError):
    """A video that cannot be used; the message names file and remedy."""


def read_video(path: str | Path, size: tuple[int, int], frames: int) -> Tensor:
    """Return the first frames of a video, scaled to cover the size and cropped at the centre.

    Args:
        path: anything that FFmpeg decodes.
        size: height and width of the images.
        frames: how many at most.

    Returns:
        float32 `(T, 3, H, W)` in [0, 1], T at least 2.

    Raises:
        VideoError: if the file is absent, damaged or no video, or has fewer than two frames, or PyAV is not installed.
    """
    if not Path(path).is_file():
        raise VideoError(f"no video at {path}")
    if frames < 2 or min(size) < 1:
        raise VideoError(
            f"differences take two frames or more (--images 2) of at least one pixel, got {frames} of {size}"
        )
    try:
        import av  # of the extra `video`
    except ImportError as error:
        raise VideoError("reading a video needs PyAV: pip install 'splitlearn[video]'") from error
    images: list[Tensor] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video stream")
            for frame in container.decode(video=0):
                images.append(_fit(torch.from_numpy(frame.to_ndarray(format="rgb24")), size))
                if len(images) == frames:
                    break
    except (av.FFmpegError, UnicodeError) as error:
        raise VideoError(
            f"{path} is no video, or is damaged after frame {len(images)}: name another ({error})"
        ) from error
    if len(images) < 2:
        raise VideoError(f"{path} has {len(images)} frame(s): differences take two or more")
    return torch.stack(images)


def _fit(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return uint8 pixels `(H, W, 3)` as a float image of another size."""
    image = pixels.permute(2, 0, 1)[None].float() / 255
    scale = max(new / old for new, old in zip(size, image.shape[2:], strict=True))
    covering = [max(new, round(scale * old)) for new, old in zip(size, image.shape[2:], strict=True)]
    scaled = functional.interpolate(image, covering, mode="bilinear", antialias=True, align_corners=False)
    top, left = ((large - new) // 2 for large, new in zip(covering, size, strict=True))
    return scaled[0, :, top : top + size[0], left : left + size[1]].clamp(0, 1)
