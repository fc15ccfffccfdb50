"""A small edge of streams, the device half that belongs to it, and frames that a camera might give."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import Carrier, CodecError, ContextRANS, PayloadCoder, StreamCoder
from splitlearn.numpy_quantizers import StepGrid
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.asks import Reply
from splitlearn.runtime.device_stream import DeviceStream, Frame
from splitlearn.runtime.streams import FrameTensors, StreamCoders, StreamOptions
from tests.runtime.edges import FINGERPRINT

SHAPE = 4, 9, 8
CODER = PayloadCoder(
    (Carrier(ContextRANS(), StepGrid(0.5, 16)),), context=77, shapes=(SHAPE,), varying=((False,) * len(SHAPE),)
)


class Sums(Edge):
    """Answers a frame with the sum of each of its channels; an edge at rates 0 and 1 with the same coder.

    Attributes:
        batches: sizes of the batches that it has computed.
        broken: whether it fails.
        gate: is waited for before each batch; open unless a test closes it.
    """

    fingerprint = FINGERPRINT

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self._streams = StreamCoders([CODER, CODER])

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        return [{"reversed": np.frombuffer(payload[::-1], np.uint8)} for payload in payloads]

    def stream_coder(self, rate: int) -> StreamCoder:
        return self._streams.of(rate)

    def answer_frames(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        self.gate.wait(10)
        if self.broken:
            raise RuntimeError("the secret of the server")
        self.batches.append(len(frames))
        return [{"sums": sums(frame)} for frame in frames]


def sums(frame: Frame | FrameTensors) -> NDArray[np.int64]:
    """Return the sum of each channel of a frame."""
    [(symbols, _)] = frame.tensors
    return np.asarray(symbols.sum((1, 2)), np.int64)


def video(count: int, noise: float = 0.1, seed: int = 0) -> list[NDArray[np.float32]]:
    """Return frames of a still picture with some noise, as latents."""
    rng = np.random.default_rng(seed)
    still = rng.normal(size=SHAPE)
    return [(still + noise * rng.normal(size=SHAPE)).astype(np.float32) for _ in range(count)]


def stream_of(**options: Any) -> DeviceStream:
    """Return a stream whose frames are latents already."""
    return DeviceStream(lambda latent: [latent], CODER, 0, StreamOptions(**options))


def frame_of(stream: DeviceStream, latent: NDArray[np.float32]) -> Frame:
    """Return the next frame."""
    found = stream.frame(latent)  # type: ignore[arg-type]
    assert isinstance(found, Frame)
    return found


def check(reply: Reply, frame: Frame) -> str:
    """Assert that a reply is that of a frame, and return what kind of frame was sent."""
    np.testing.assert_array_equal(reply.arrays["sums"], sums(frame))
    return reply.frame
