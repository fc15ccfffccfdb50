"""Pictures coded beside the ones before, with H.264 or H.265 by PyAV: what streams of features are compared with."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import CodecError, Payload
from splitlearn.codecs.container import as_bytes
from splitlearn.outputs import MAX_PIXELS, too_many_pixels

NAMES = {"H264": ("libx264", "h264"), "H265": ("libx265", "hevc")}  # encoder and decoder of each format
ONE_CORE = {"H264": "x264-params", "H265": "x265-params"}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
LOW_DELAY = 0x80000  # flag of FFmpeg's decoders: a picture comes out as soon as it is in
EXPLODE = {"err_detect": "explode"}


class VideoCodec:
    """H.264 (x264) or H.265 (x265) video of 8-bit pictures, sent as they come: no B-frames, no look-ahead.

    Every picture becomes one packet, coded beside those before, on one core. Nothing is kept here: `sender()` and
    `receiver()` return what remembers a video, one for each. Grey pictures have no colour planes (4:0:0), those of
    colour pictures have half the resolution (4:2:0). A packet has no checksum: damage may stay unnoticed.

    Args:
        format: `H264` or `H265`, case-insensitive.
        quality: constant rate factor, 0 (finest) … 51.
        preset: speed of the encoder, `ultrafast` … `placebo`, as x264 and x265 name it.
        key_every: most pictures from one key picture to the next.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if PyAV is not installed.
    """

    def __init__(self, format: str = "H265", quality: int = 28, preset: str = "medium", key_every: int = 250) -> None:
        _av()
        self.format, self.quality, self.preset, self.key_every = format.upper(), quality, preset, key_every
        if self.format not in NAMES:
            raise ValueError(f"there is no video format {format!r} here: take one of {', '.join(NAMES)}")
        if not 0 <= quality <= 51:
            raise ValueError(f"quality is the constant rate factor, 0…51, got {quality}")
        if preset not in PRESETS:
            raise ValueError(f"there is no preset {preset!r}: take one of {', '.join(PRESETS)}")
        if key_every < 1:
            raise ValueError(f"key_every must be at least 1, got {key_every}")

    def sender(self) -> VideoSender:
        """Return the sending end of a new video."""
        return VideoSender(self)

    def receiver(self, *, grey: bool) -> VideoReceiver:
        """Return the receiving end of a new video of grey or colour pictures."""
        return VideoReceiver(self, grey=grey)


class VideoSender:
    """Sending end of one video: the state of its encoder."""

    def __init__(self, codec: VideoCodec) -> None:
        self.codec = codec
        self._encoder: Any = None
        self._shape: tuple[int, ...] = ()
        self._number = 0

    def encode(self, picture: NDArray[np.uint8]) -> tuple[bytes, bool]:
        """Return the packet of the next picture, and whether it can be read without those before.

        Args:
            picture: uint8 `(H, W, 3)` or grey `(H, W)`, of the shape of the first one.

        Raises:
            ValueError: if it is no such picture, or the encoder does not take its size.
        """
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
            raise ValueError(f"a picture is uint8 (H, W, 3) or (H, W), got {picture.dtype} {picture.shape}")
        if picture.ndim == 3 and (picture.shape[0] % 2 or picture.shape[1] % 2):
            raise ValueError(f"colour pictures have an even height and width here, got {picture.shape[:2]}")
        if self._encoder is None:
            self._shape, self._encoder = picture.shape, self._opened(picture)
        if picture.shape != self._shape:
            raise ValueError(f"pictures of a video have one shape: got {picture.shape} after {self._shape}")
        kind = "gray" if picture.ndim == 2 else "rgb24"
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
        frame = frame if picture.ndim == 2 else frame.reformat(format="yuv420p")
        frame.pts = self._number
        self._number += 1
        packets = self._encoder.encode(frame)
        assert packets, "an encoder without look-ahead gives a packet for each picture"
        return b"".join(map(bytes, packets)), bool(packets[0].is_keyframe)

    def _opened(self, picture: NDArray[np.uint8]) -> Any:
        codec, av = self.codec, _av()
        encoder = av.CodecContext.create(NAMES[codec.format][0], "w")
        encoder.height, encoder.width = picture.shape[:2]
        encoder.pix_fmt = "gray" if picture.ndim == 2 else "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
        encoder.thread_count, encoder.gop_size = 1, codec.key_every
        settings = f"keyint={codec.key_every}:" + ("pools=none:frame-threads=1:info=0:" * (codec.format == "H265"))
        encoder.options = {
            "preset": codec.preset,
            "tune": "zerolatency",
            "crf": str(codec.quality),
            ONE_CORE[codec.format]: f"{settings}log-level=none" if codec.format == "H265" else settings.rstrip(":"),
        }
        try:
            encoder.open()
        except av.FFmpegError as error:
            raise ValueError(f"{codec.format} takes no pictures of shape {picture.shape}: {error}") from error
        return encoder


class VideoReceiver:
    """Receiving end of one video: the state of its decoder."""

    def __init__(self, codec: VideoCodec, *, grey: bool, max_pixels: int = MAX_PIXELS) -> None:
        self.grey, self.max_pixels = grey, max_pixels
        decoder = _av().CodecContext.create(NAMES[codec.format][1], "r")
        decoder.thread_count = 1
        decoder.flags |= LOW_DELAY
        decoder.options = EXPLODE | {"max_pixels": str(max_pixels)}  # refused before memory is taken
        self._decoder: Any = decoder

    def decode(self, payload: Payload) -> NDArray[np.uint8]:
        """Return the next picture, `(H, W, 3)` or grey `(H, W)`.

        Raises:
            CodecError: if the packet is not of one picture, or damage is noticed.
        """
        av = _av()
        try:
            frames = self._decoder.decode(av.Packet(as_bytes(payload)))
        except (av.FFmpegError, ValueError) as error:
            raise CodecError(f"the payload is no packet of this video, or is damaged: {error}") from error
        if len(frames) != 1:
            raise CodecError(f"the payload holds {len(frames)} pictures, and one is needed: it is damaged")
        (frame,) = frames
        if frame.height * frame.width > self.max_pixels:
            raise CodecError(too_many_pixels(frame.height, frame.width, self.max_pixels))
        if not self.grey:
            colour: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
            return colour
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        return rows[: frame.height, : frame.width].copy()


def _av() -> Any:
    """Return PyAV, which is optional."""
    try:
        import av
    except ImportError as error:
        raise ImportError("video codecs need PyAV: pip install 'splitlearn[video]'") from error
    return av
