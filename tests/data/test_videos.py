"""Frames of videos in their order, as networks take them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from splitlearn.data import DataError, LetterboxVideos, VideoError, Videos, video_frames
from splitlearn.outputs import Frames
from tests.data.test_video import write_sound, write_video

av = pytest.importorskip("av")


def read(data: Videos) -> list[tuple[Tensor, Frames]]:
    data.setup("test")
    return [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]


def write_uneven(path: Path, times: tuple[int, ...]) -> Path:
    """Frames at these milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1000)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = 32, 32, "bgr0", Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), time % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_growing(path: Path) -> Path:
    """A bare H.264 stream whose frames are larger from the fourth one on."""
    parts = []
    for size in ((64, 64), (96, 128)):
        encoder = av.CodecContext.create("libx264", "w")
        encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *size, "yuv420p", Fraction(1, 25)
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 80 + 20 * number, np.uint8), format="rgb24")
            frame.pts = number
            parts += [bytes(packet) for packet in encoder.encode(frame.reformat(format="yuv420p"))]
    path.write_bytes(b"".join(parts))
    return path


def test_frames_of_a_folder_come_video_after_video(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_video(tmp_path / "b/later.mkv", 3)
    write_video(tmp_path / "a.mkv", 5)
    (tmp_path / "notes.txt").write_text("ignored")
    found = read(Videos(tmp_path, 32, 48, batch_size=4))
    assert [(f.video, f.first, len(images)) for images, f in found] == [
        ("a.mkv", 0, 4),
        ("a.mkv", 4, 1),
        ("b/later.mkv", 0, 3),
    ]
    images, frames = found[0]
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert frames.seconds == pytest.approx([0.1] * 4)
    assert frames.to("cpu") is frames


def test_each_third_frame_is_shown_until_the_next(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 9)
    all_frames = torch.cat([images for images, _ in read(LetterboxVideos(path, 64))])
    ((images, frames),) = read(LetterboxVideos(path, 64, every=3, first=1, frames=2))
    assert frames == Frames("a.mkv", 0, pytest.approx((0.3, 0.3)))  # type: ignore[arg-type]
    assert torch.equal(images, all_frames[[1, 4]])


def test_variable_frame_rates_are_told_exactly(tmp_path: Path) -> None:
    path = write_uneven(tmp_path / "a.mkv", (0, 40, 240, 250))
    seconds = [shown for _, shown in video_frames(path)]
    assert seconds[:3] == pytest.approx([0.04, 0.2, 0.01])
    ((_, frames),) = read(Videos(path, 32))
    assert frames.seconds == pytest.approx(seconds)


def test_frames_that_change_their_size_are_brought_to_the_networks(tmp_path: Path) -> None:
    path = write_growing(tmp_path / "a.h264")
    assert [tuple(pixels.shape) for pixels, _ in video_frames(path)] == [(64, 64, 3)] * 3 + [(96, 128, 3)] * 3
    ((images, frames),) = read(Videos(path, 48))
    assert images.shape == (6, 3, 48, 48)
    assert all(seconds > 0 for seconds in frames.seconds)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_a_video_that_is_cut_off_in_a_frame(tmp_path: Path, suffix: str, shared_data: Path) -> None:
    whole = tmp_path / f"whole.{suffix}"
    with (
        av.open(str(shared_data / "video_static_camera.mp4")) as source,
        av.open(str(whole), "w", options={"movflags": "faststart"} if suffix == "mp4" else {}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None or number == 12:
                break
            packet.stream = stream
            copy.mux(packet)
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(VideoError, match=r"is no video, or is damaged after frame \d+: name another"):
        list(video_frames(path))


def test_what_holds_no_videos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*none: name a video, or a folder"):
        Videos(tmp_path / "none", 32).setup("test")
    (tmp_path / "a.txt").write_text("no video")
    with pytest.raises(DataError, match=r"holds no videos \(.*\.mp4.*\): name a folder that does"):
        Videos(tmp_path, 32).setup("test")
    with pytest.raises(VideoError, match="has no video stream"):
        read(Videos(write_sound(tmp_path / "a.wav"), 32))
    with pytest.raises(VideoError, match="has no frame 5: set first lower"):
        read(Videos(write_video(tmp_path / "a.mkv", 5), 32, first=5))


def test_videos_are_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="videos are for `splitlearn test` alone"):
        Videos(tmp_path, 32).setup("fit")


@pytest.mark.parametrize("numbers", [{"every": 0}, {"first": -1}, {"frames": 0}])
def test_numbers_out_of_range(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="every and frames are at least 1 and first at least 0"):
        Videos("anywhere", 32, **numbers)
