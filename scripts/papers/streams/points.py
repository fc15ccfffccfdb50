"""What is sent of a scene, and how well the answers agree: one point for each way of sending."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from scripts.papers.streams.footage import Clip
from scripts.papers.streams.networks import BATCH, Footage, Prepared, batches, rows
from splitlearn.codecs.stream import is_key
from splitlearn.models import StreamModel, VideoModel
from splitlearn.outputs import Features

ALONE, NEXT, STICKY = "every frame by itself", "the frame before as reference", "sticky"
KNOWN = ", tables known"
CHOICE, STILL = "to choose margins", "still"


@dataclass(frozen=True)
class StreamPoint:
    """One way of sending all frames of a scene.

    Attributes:
        method: what the points of a curve share.
        setting: what is special about this one.
        agreement: of answers with those of the unsplit network, 0…1; −1 where they were not asked for.
        frames: number of frames.
        key_frames: number of frames that can be read alone.
        bytes_per_frame: mean payload, headers counted.
        bytes_per_key_frame: mean of key frames.
        bytes_per_delta_frame: mean of other frames; 0 without any.
        bytes_per_second: of the video as it is shown.
        encode_ms: median processor time a frame: from features, or for video of pixels from these, to the payload.
        table_bytes: code tables and levels, sent once.
        sizes: bytes of each frame.
    """

    method: str
    setting: str
    agreement: float
    frames: int
    key_frames: int
    bytes_per_frame: float
    bytes_per_key_frame: float
    bytes_per_delta_frame: float
    bytes_per_second: float
    encode_ms: float
    table_bytes: int
    sizes: list[int] = field(repr=False)


class Sizes:
    """Bytes and processor times of frames."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.keys: list[bool] = []
        self.times: list[float] = []

    def point(
        self, method: str, setting: str, agreement: float, clips: Sequence[Clip], table_bytes: int
    ) -> StreamPoint:
        """Return what was counted."""
        keys = [size for size, key in zip(self.sizes, self.keys, strict=True) if key]
        others = [size for size, key in zip(self.sizes, self.keys, strict=True) if not key]
        total = sum(self.sizes)
        return StreamPoint(
            method,
            setting,
            agreement,
            len(self.sizes),
            len(keys),
            total / len(self.sizes),
            sum(keys) / max(1, len(keys)),
            sum(others) / max(1, len(others)),
            total / sum(clip.seconds for clip in clips),
            1000 * statistics.median(self.times),
            table_bytes,
            self.sizes,
        )


def streamed(
    prepared: Prepared, footage: Footage, model: StreamModel, method: str, setting: str, *, asked: bool = True
) -> StreamPoint:
    """Send all clips as streams, decode every payload, and ask for the agreement of the answers if it is wanted."""
    counted, stream, sent = Sizes(), model.stream, []
    for features in footage.features:
        sender, receiver = stream.sender(), stream.receiver()
        found = []
        for row in rows(model.model, features):
            begun = time.process_time()
            payload = sender.encode(row)
            counted.times.append(time.process_time() - begun)
            counted.sizes.append(len(payload))
            counted.keys.append(is_key(payload))
            found.append(receiver.unpack(payload))
        sent.append(found)
    agreement = prepared.agreement(model.model, footage, sent) if asked else -1.0
    return counted.point(method, setting, agreement, footage.clips, model.table_bytes or 0)


def as_video(
    prepared: Prepared, footage: Footage, model: VideoModel, method: str, setting: str, *, of_pixels: bool
) -> StreamPoint:
    """Send all clips through a video codec, features or pixels, and ask for the agreement of the answers."""
    counted = Sizes()

    def outputs() -> Iterator[Any]:
        for clip, features in zip(footage.clips, footage.features, strict=True):
            sender, receiver = model.sender(), model.receiver()
            parts: Any = torch.split(clip.frames, BATCH) if of_pixels else batches(features)
            for part in parts:
                payloads = []
                for number in range(len(part)):
                    one = part[number : number + 1] if of_pixels else _frame(part, number)
                    begun = time.process_time()
                    (frame,) = sender.compress(one)
                    counted.times.append(time.process_time() - begun)
                    counted.sizes.append(len(frame.payload))
                    counted.keys.append(frame.is_key)
                    payloads.append(frame.payload)
                yield receiver.decompress(payloads)

    agreement = prepared.answered(footage, outputs())
    return counted.point(method, setting, agreement, footage.clips, model.table_bytes or 0)


def _frame(features: Features, number: int) -> Features:
    return Features(tuple(tensor[number : number + 1] for tensor in features.tensors), features.pixels)
