"""Frames of real and of broken files."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from splitlearn.analysis import axis_correlation
from splitlearn.data import VideoError, read_video

av = pytest.importorskip("av")


def write_video(path: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A bright square on black that moves right, four pixels a frame, lossless."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for number in range(frames):
            picture = np.zeros((*size, 3), np.uint8)
            picture[16:32, 4 * number : 4 * number + 16] = (255, 128, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_frames_come_in_order_and_exact_at_their_own_size(tmp_path: Path) -> None:
    images = read_video(write_video(tmp_path / "a.mkv", 5), (48, 64), 10)
    assert images.shape == (5, 3, 48, 64)
    for number, image in enumerate(images):
        assert image[:, 20, 4 * number].tolist() == pytest.approx([1, 128 / 255, 0])
        assert image[:, :, 4 * number + 16 :].max() == 0


def test_no_more_frames_than_asked_for(tmp_path: Path) -> None:
    assert len(read_video(write_video(tmp_path / "a.mkv", 5), (48, 64), 3)) == 3


@pytest.mark.parametrize("size", [(24, 24), (96, 64), (31, 57)])
def test_frames_are_scaled_to_cover_and_cropped_at_the_centre(tmp_path: Path, size: tuple[int, int]) -> None:
    images = read_video(write_video(tmp_path / "a.mkv", 2), size, 2)
    assert images.shape == (2, 3, *size)
    assert 0 <= images.min() < images.max() <= 1


def test_a_square_keeps_its_place_under_the_crop(tmp_path: Path) -> None:
    images = read_video(write_video(tmp_path / "a.mkv", 8), (24, 24), 8)  # half the size: columns 4 to 28 of 32
    assert images[-1, 0, 12, 10:18].min() > 0.8  # columns 28…44 of 64 are 14…22 of 32, less 4
    assert images[-1, 0, 12, :9].max() < 0.1


def write_turned(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Black frames of 32 × 64 with a bright upper left corner, which are to be shown by x' = ax + cy, y' = bx + dy."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:8, :16] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    unturned = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = content.index(unturned, content.index(b"tkhd"))
    numbers = [round(value * (1 << 16)) for value in (a, b, 0, c, d, 0, 0, 0)]
    content[at : at + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "shape", "corner"),
    [
        ((1, 0, 0, 1), (32, 64), (0, 0)),
        ((0, 1, -1, 0), (64, 32), (0, -1)),  # a quarter clockwise, as phones held upright write it
        ((-1, 0, 0, -1), (32, 64), (-1, -1)),
        ((0, -1, 1, 0), (64, 32), (-1, 0)),
        ((-1, 0, 0, 1), (32, 64), (0, -1)),  # mirrored
        ((0, 1, 1, 0), (64, 32), (0, 0)),
    ],
)
def test_turned_videos_are_shown_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int], shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = read_video(write_turned(tmp_path / "a.mp4", *matrix), shape, 2)[0].mean(0)
    bright = torch.zeros(shape)
    rows, columns = (
        slice(0, 8 * side // 32) if at == 0 else slice(-8 * side // 32, None)
        for at, side in zip(corner, shape, strict=True)
    )
    bright[rows, columns] = 1
    assert (image - bright).abs().max() < 0.3


def test_a_slanted_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="a rotation by other than quarter turns: save it upright"):
        read_video(write_turned(tmp_path / "a.mp4", 0.7, 0.7, -0.7, 0.7), (32, 32), 2)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.mp4", None, "no video at "),
        ("empty.mp4", b"", "is no video, or is damaged after frame 0: name another"),
        ("text.mp4", b"this is no video at all" * 40, "is no video, or is damaged after frame 0: name another"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=sentence):
        read_video(tmp_path / name, (8, 8), 4)


def test_sound_alone(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no video stream"):
        read_video(write_sound(tmp_path / "a.wav"), (8, 8), 4)


def test_one_frame_has_no_differences(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"has 1 frame\(s\), but differences need two or more"):
        read_video(write_video(tmp_path / "a.mkv", 1), (8, 8), 4)
    with pytest.raises(VideoError, match="differences need two or more frames"):
        read_video(write_video(tmp_path / "b.mkv", 4), (8, 8), 1)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"needs PyAV: pip install 'splitlearn\[video\]'"):
        read_video(path, (8, 8), 2)


def test_a_static_camera_hardly_changes(shared_data: Path) -> None:
    images = read_video(shared_data / "video_static_camera.mp4", (64, 64), 5)
    assert images.shape == (5, 3, 64, 64)
    found = axis_correlation(images, "frame")
    assert found.correlation is not None
    assert found.correlation > 0.99
    assert torch.isfinite(images).all()
