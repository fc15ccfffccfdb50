"""Pictures as packets of H.264 and H.265, one after the other."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, VideoCodec

pytest.importorskip("av")
FORMATS = ("H264", "H265")


def pictures(count: int, *shape: int) -> list[NDArray[np.uint8]]:
    """Return smooth pictures in which a bright square moves."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 90 + 60 * np.sin(rows / 9) + 40 * np.cos(columns / 13)
    found = []
    for number in range(count):
        picture = np.broadcast_to(smooth.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape).astype(np.uint8).copy()
        picture[8:24, 8 + 2 * number : 24 + 2 * number] = 230
        found.append(picture)
    return found


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 3), (33, 65)])
def test_each_packet_is_a_picture(format: str, shape: tuple[int, ...]) -> None:
    codec = VideoCodec(format, quality=16, preset="ultrafast")
    sender, receiver = codec.sender(), codec.receiver(grey=len(shape) == 2)
    keys = []
    for picture in pictures(5, *shape):
        payload, is_key = sender.encode(picture)
        keys.append(is_key)
        restored = receiver.decode(payload)
        assert restored.shape == shape
        assert np.abs(restored.astype(int) - picture).mean() < 4
    assert keys == [True, False, False, False, False]


@pytest.mark.parametrize("format", FORMATS)
def test_pictures_beside_those_before_are_small(format: str) -> None:
    codec = VideoCodec(format, preset="ultrafast")
    sender = codec.sender()
    sizes = [len(sender.encode(picture)[0]) for picture in pictures(1, 96, 128) * 4]
    assert max(sizes[1:]) < sizes[0] / 8


@pytest.mark.parametrize("format", FORMATS)
def test_key_pictures_can_be_read_alone(format: str) -> None:
    codec = VideoCodec(format, preset="ultrafast", key_every=2)
    sender = codec.sender()
    sent = [sender.encode(picture) for picture in pictures(5, 64, 64)]
    assert [is_key for _, is_key in sent] == [True, False, True, False, True]
    assert codec.receiver(grey=True).decode(sent[2][0]).shape == (64, 64)


@pytest.mark.parametrize("format", FORMATS)
def test_coarser_qualities_are_smaller(format: str) -> None:
    sizes = []
    for quality in (10, 30, 50):
        sender = VideoCodec(format, quality, "ultrafast").sender()
        sizes.append(sum(len(sender.encode(picture)[0]) for picture in pictures(3, 64, 64, 3)))
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "of nothing before"])
def test_damaged_packets(format: str, damage: str) -> None:
    codec = VideoCodec(format, preset="ultrafast")
    sender = codec.sender()
    first, second = [sender.encode(picture)[0] for picture in pictures(2, 64, 64)]
    payload = {"empty": b"", "text": b"no video" * 9, "truncated": first[:20], "of nothing before": second}[damage]
    with pytest.raises(CodecError, match="payload"):
        codec.receiver(grey=True).decode(payload)


def test_pictures_that_are_too_large_are_refused() -> None:
    from splitlearn.codecs import VideoReceiver

    codec = VideoCodec("H264", preset="ultrafast")
    payload, _ = codec.sender().encode(pictures(1, 128, 128)[0])
    with pytest.raises(CodecError):
        VideoReceiver(codec, grey=True, max_pixels=64 * 64).decode(payload)


def test_arguments_that_are_out_of_range() -> None:
    with pytest.raises(ValueError, match="no video format 'VP9' here: take one of H264, H265"):
        VideoCodec("VP9")
    with pytest.raises(ValueError, match="constant rate factor, 0…51, got 52"):
        VideoCodec("H265", 52)
    with pytest.raises(ValueError, match="no preset 'quick': take one of ultrafast"):
        VideoCodec("H265", preset="quick")
    with pytest.raises(ValueError, match="key_every must be at least 1"):
        VideoCodec("H265", key_every=0)


def test_pictures_that_do_not_fit() -> None:
    sender = VideoCodec("H264", preset="ultrafast").sender()
    with pytest.raises(ValueError, match="even height and width"):
        sender.encode(np.zeros((33, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a picture is uint8 \(H, W, 3\) or \(H, W\), got float64"):
        sender.encode(np.zeros((32, 64)))  # type: ignore[arg-type]
    sender.encode(np.zeros((32, 64), np.uint8))
    with pytest.raises(ValueError, match="pictures of a video have one shape"):
        sender.encode(np.zeros((64, 64), np.uint8))


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"need PyAV: pip install 'splitlearn\[video\]'"):
        VideoCodec()
