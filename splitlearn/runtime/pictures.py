"""Pictures to send: image files of a folder or frames of a video, read without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from splitlearn.decoding import DataError, decode_rgb, video_frames_in
from splitlearn.resource_errors import of_machine
from splitlearn.runtime.graph import MissingExtraError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".gif", ".tif", ".tiff", ".avif", ".jp2"}
QUARTER = 90  # degrees


class Picture(NamedTuple):
    """One picture to send.

    Attributes:
        name: path below the folder, or number of the frame.
        read: function that returns the picture, RGB and upright; raises DataError if it is damaged.
        seconds: when a video shows it, from the video's beginning; None if that is not known.
    """

    name: str
    read: Callable[[], Image.Image]
    seconds: float | None = None


def pictures_of(folder: Path) -> list[Picture]:
    """Return the image files of a folder and its sub-folders, in the order of their paths.

    Raises:
        DataError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name one that contains images")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): name a folder that does")
    return [Picture(path.relative_to(folder).as_posix(), partial(decode_rgb, path)) for path in files]


def frames_of(video: Path) -> Iterator[Picture]:
    """Yield the frames of a video, upright, named by their numbers from 0.

    If the video is damaged or ends too early after some frames, one more picture ends it, which cannot be read.

    Raises:
        DataError: if the file is missing, or nothing of it is a video.
        MissingExtraError: if PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading a video needs PyAV: install splitlearn[video]") from error
    if not video.is_file():
        raise DataError(f"there is no video {video}")
    number = 0
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise DataError("it has no video stream")
            for frame in video_frames_in(container):
                image: Image.Image = frame.to_image()
                turned = image.rotate(frame.rotation, expand=True) if frame.rotation % (4 * QUARTER) else image
                yield Picture(f"{number:06d}", turned.copy, frame.time)
                number += 1
        if not number:
            raise DataError("it has no frames")
    except (av.FFmpegError, UnicodeError, DataError) as error:
        if of_machine(error):
            raise
        if not number:
            raise DataError(f"{video} is no video, or is damaged from the start: name another ({error})") from error
        yield Picture(
            f"{number:06d}", partial(_raise, f"{video} is damaged from frame {number} on: name another ({error})")
        )


def _raise(sentence: str) -> Image.Image:
    raise DataError(sentence)
