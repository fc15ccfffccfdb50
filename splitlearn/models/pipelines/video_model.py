"""Networks whose images are the frames of videos: payloads that tell what has changed since the frame before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splitlearn.codecs import StreamCoder, StreamReceiver, StreamSender
from splitlearn.codecs.base import Payload
from splitlearn.codecs.stream import is_key
from splitlearn.models.modes import deployed, evaluating
from splitlearn.models.pipelines.cut_model import CoderModel
from splitlearn.outputs import Features


@dataclass(frozen=True)
class SentFrame:
    """What is sent of a frame.

    Attributes:
        payload: all bytes of it.
        is_key: whether it can be read without the frames before.
    """

    payload: bytes
    is_key: bool


class FrameSender(ABC):
    """The device's end of one video: remembers what the next frame is coded beside."""

    @abstractmethod
    def compress(self, frames: Tensor | Features) -> list[SentFrame]:
        """Return what is sent of the next frames, float `(B, C, H, W)` in [0, 1] in their order."""


class FrameReceiver(ABC):
    """The server's end of one video."""

    @abstractmethod
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output for the next frames.

        Raises:
            CodecError: if a payload is damaged, or refers to a frame that is not here.
        """


class VideoModel(nn.Module, ABC):
    """Base class: a network with a stream of payloads between device and edge server.

    It remembers nothing of a video: `sender()` and `receiver()` return what does, one of each for a video.
    """

    @abstractmethod
    def sender(self) -> FrameSender:
        """Return the device's end of a new video."""

    @abstractmethod
    def receiver(self) -> FrameReceiver:
        """Return the server's end of a new video."""

    @abstractmethod
    def unsplit(self, frames: Tensor | Features) -> Any:
        """Return the output of the network for frames that have not been sent."""

    @property
    def table_bytes(self) -> int | None:
        """Size in bytes of code tables and calibrated levels, sent once; None if there are none of these."""
        return None


class StreamModel(VideoModel):
    """A cut network whose latents are sent as a stream: key frames, and frames that tell what has changed.

        frames → normalize → head → encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail
                                                 └ symbols of the frame before ┘

    Args:
        model: a cut network with one feature coder, such as a `SplitModel`, also as `load_bottleneck` returns it; a
            codec of it takes a reference (`ContextRANS`).
        margin: hysteresis of the quantizers, 0…0.5 distances of levels, see `StickyGrid`; above 0, levels must not
            depend on the image.
        key_every: most frames from one key frame to the next; 1 sends key frames alone, None one alone.
        key_bytes: most bytes of frames after a key frame; then comes the next one. None sets no limit.
        skip: share of symbols, 0…1; a frame in which no more have changed is sent as a repeat of the one before.

    Raises:
        ValueError: as `StreamCoder`; or if the model has exits, or is a detector of torchvision.
    """

    def __init__(
        self,
        model: CoderModel,
        margin: float = 0.0,
        key_every: int | None = 250,
        key_bytes: int | None = None,
        skip: float = 0.0,
    ) -> None:
        super().__init__()
        check_streamed(model)
        self.model = model
        self.margin, self.key_every, self.key_bytes, self.skip = margin, key_every, key_bytes, skip
        _ = self.stream  # which checks the numbers

    @property
    def stream(self) -> StreamCoder:
        """How frames become payloads, without torch."""
        return StreamCoder(self.model.coder.numpy_half, self.margin, self.key_every, self.key_bytes, self.skip)

    @property
    def table_bytes(self) -> int:
        """Size in bytes of code tables and calibrated levels, sent once."""
        return self.model.table_bytes

    def sender(self) -> FrameSender:
        """Return the device's end of a new video."""
        return _LatentSender(self.model, self.stream.sender())

    def receiver(self) -> FrameReceiver:
        """Return the server's end of a new video."""
        return _LatentReceiver(self.model, self.stream.receiver())

    def unsplit(self, frames: Tensor | Features) -> Any:
        """Return the output of the network for frames that have not been sent."""
        return unsplit(self.model, frames)

    @deployed
    def fitted(self, videos: Iterable[Iterable[Tensor | Features]]) -> Self:
        """Return this model with static tables fitted to videos, each as batches of its frames in order.

        Payloads then hold no tables; whether that makes them smaller depends on how alike these videos and the next
        ones are. Symbols are those of the model's margin.

        Raises:
            ValueError: as `FeatureCoder.compress`.
        """
        whole = type(self)(self.model, self.margin, None, None, self.skip)
        sequences: list[list[list[NDArray[np.uint8]]]] = [[] for _ in self.model.net.dtypes]
        for frames in videos:
            sender, receiver = whole.sender(), whole.stream.receiver()
            sent = [frame.payload for batch in frames for frame in sender.compress(batch)]
            columns = zip(*(receiver.unpack(payload) for payload in sent), strict=True)
            for sequence, column in zip(sequences, columns, strict=True):
                sequence.append([symbols for symbols, _ in column])
        coder, dtypes = self.model.coder, self.model.net.dtypes
        floats = [sequence for sequence, dtype in zip(sequences, dtypes, strict=True) if dtype.is_floating_point]
        facts = zip(coder.codecs, floats, coder.quantizers, strict=True)
        codecs = [codec.fitted_to_sequences(found, quantizer.levels) for codec, found, quantizer in facts]
        model = self.model.coded_by(coder.quantizers, codecs)
        return type(self)(model, self.margin, self.key_every, self.key_bytes, self.skip)


class _LatentSender(FrameSender):
    def __init__(self, model: CoderModel, sender: StreamSender) -> None:
        self.model, self._sender = model, sender

    def compress(self, frames: Tensor | Features) -> list[SentFrame]:
        """Return what is sent of the next frames."""
        payloads = [self._sender.encode(row) for row in latent_rows(self.model, frames)]
        return [SentFrame(payload, is_key(payload)) for payload in payloads]


class _LatentReceiver(FrameReceiver):
    def __init__(self, model: CoderModel, receiver: StreamReceiver) -> None:
        self.model, self._receiver = model, receiver

    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output for the next frames."""
        return predicted(self.model, [self._receiver.unpack(payload) for payload in payloads])


def check_streamed(model: CoderModel) -> None:
    """Raise ValueError unless the latents of a model can be sent as a stream."""
    name = type(model).__name__
    if model.exits_early:
        raise ValueError(f"a {name} has early exits, and a stream sends every frame: use a SplitModel of the same cut")
    if model.net.by_image:
        raise ValueError(
            "torchvision's detectors send the size of each image along, which a stream does not check: cut a network "
            "that takes batches of one size"
        )


def latent_rows(model: CoderModel, frames: Tensor | Features) -> list[list[NDArray[Any]]]:
    """Return what crosses the cut for each frame: float32 latents, and integers.

    Raises:
        ValueError: if frames are not in [0, 1], or the cut refuses their size.
    """
    with evaluating(model), torch.inference_mode():
        latents = model.coder.encoded(model.features(frames))
    arrays = [(t.float() if t.is_floating_point() else t).contiguous().cpu().numpy() for t in latents]
    return [[array[number] for array in arrays] for number in range(len(arrays[0]))]


def predicted(model: CoderModel, tensors: Sequence[Sequence[tuple[NDArray[np.uint8], tuple[float, ...]]]]) -> Any:
    """Return the network's output for symbols and floats of frames, as `StreamReceiver.unpack` returns them."""
    with evaluating(model), torch.inference_mode():
        return model.predict(model.coder.restored(model.coder.dequantized(tensors)))


def unsplit(model: CoderModel, frames: Tensor | Features) -> Any:
    """Return the output of a cut network for frames that have not been sent."""
    with evaluating(model), torch.inference_mode():
        return model.predict(model.wanted(frames, model.features(frames)))
