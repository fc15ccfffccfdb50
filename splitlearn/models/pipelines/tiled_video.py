"""Features of a cut network as video, coded by H.264 or H.265."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from splitlearn.codecs import VideoCodec, VideoReceiver, VideoSender
from splitlearn.codecs.base import Payload
from splitlearn.models.pipelines.cut_model import CoderModel
from splitlearn.models.pipelines.tiled_model import picture_of, ranking_of, symbols_of
from splitlearn.models.pipelines.video_model import (
    FrameReceiver,
    FrameSender,
    SentFrame,
    VideoModel,
    check_streamed,
    latent_rows,
    predicted,
    unsplit,
)
from splitlearn.outputs import Features


class TiledVideo(VideoModel):
    """A cut network whose features are sent as video: the channels beside each other, as one grey picture a frame.

        frames → normalize → head → quantize → tile → H.265 ═ payload ═ H.265 → untile → dequantize → tail

    What streams of features are compared with. A payload is the codec's packet, without any header.

    Args:
        model: a cut network where one float tensor crosses, with a quantizer whose levels do not depend on the image;
            of 256 levels, so that nearly all loss is the video codec's. Its codec is not used.
        codec: the video codec.

    Raises:
        ValueError: if several tensors cross, or levels depend on the image.
    """

    def __init__(self, model: CoderModel, codec: VideoCodec) -> None:
        super().__init__()
        check_streamed(model)
        if len(model.coder.quantizers) != 1 or len(model.net.dtypes) != 1:
            raise ValueError(
                f"{len(model.net.dtypes)} tensors cross at {model.net.at}, and a picture is made of one: cut elsewhere"
            )
        (quantizer,) = model.coder.quantizers
        if quantizer.floats_per_image:
            raise ValueError(
                f"the levels of {type(quantizer).__name__} depend on the image, and a video needs those of the frame "
                "before: use Clipped, Step or Affine"
            )
        self.model, self.codec = model, codec

    def sender(self) -> FrameSender:
        """Return the device's end of a new video."""
        return _TileSender(self.model, self.codec.sender())

    def receiver(self) -> FrameReceiver:
        """Return the server's end of a new video."""
        return _TileReceiver(self.model, self.codec.receiver(grey=True))

    def unsplit(self, frames: Tensor | Features) -> Any:
        """Return the output of the network for frames that have not been sent."""
        return unsplit(self.model, frames)


class _TileSender(FrameSender):
    def __init__(self, model: CoderModel, sender: VideoSender) -> None:
        self.model, self._sender = model, sender

    def compress(self, frames: Tensor | Features) -> list[SentFrame]:
        """Return what is sent of the next frames."""
        (quantizer,), (carrier,) = self.model.coder.quantizers, self.model.coder.numpy_half.carriers
        ranking, rows = ranking_of(quantizer), latent_rows(self.model, frames)
        pictures = (picture_of(carrier.quantized(latent)[0], quantizer.levels, ranking) for (latent,) in rows)
        return [SentFrame(*self._sender.encode(picture)) for picture in pictures]


class _TileReceiver(FrameReceiver):
    def __init__(self, model: CoderModel, receiver: VideoReceiver) -> None:
        self.model, self._receiver = model, receiver
        (self._shape,) = model.coder.latent_shapes

    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output for the next frames."""
        (quantizer,) = self.model.coder.quantizers
        ranking = ranking_of(quantizer)
        pictures = [self._receiver.decode(payload) for payload in payloads]
        found = [symbols_of(picture, self._shape, quantizer.levels, ranking) for picture in pictures]
        return predicted(self.model, [[(symbols, ())] for symbols in found])
