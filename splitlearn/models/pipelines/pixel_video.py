"""Images of an unsplit network as video, coded by H.264 or H.265."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import VideoCodec, VideoReceiver, VideoSender
from splitlearn.codecs.base import Payload
from splitlearn.models.coder import codec_errors
from splitlearn.models.images import Normalize, as_input, like
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.video_model import FrameReceiver, FrameSender, SentFrame, VideoModel
from splitlearn.outputs import Features


class PixelVideo(VideoModel):
    """An unsplit network on the edge server, sent its images as H.264 or H.265 video.

        frames → H.265 ═ payload ═ H.265 → normalize → network → prediction

    Args:
        network: any network of colour images of one even size.
        codec: the video codec.
        normalize: applied to images in [0, 1]; None for none.
    """

    def __init__(self, network: nn.Module, codec: VideoCodec, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.network, self.codec, self.normalize = network.eval(), codec, normalize

    def sender(self) -> FrameSender:
        """Return the device's end of a new video."""
        return _PictureSender(self.codec.sender())

    def receiver(self) -> FrameReceiver:
        """Return the server's end of a new video."""
        return _PictureReceiver(self, self.codec.receiver(grey=False))

    @deployed
    def unsplit(self, frames: Tensor | Features) -> Any:
        """Return the output of the network for frames that have not been sent.

        Raises:
            ValueError: if these are no float images `(B, 3, H, W)`.
        """
        given = as_input(pixels_only(frames), like(self.network))
        return self.network(given if self.normalize is None else self.normalize(given))


class _PictureSender(FrameSender):
    def __init__(self, sender: VideoSender) -> None:
        self._sender = sender

    def compress(self, frames: Tensor | Features) -> list[SentFrame]:
        """Return what is sent of the next frames."""
        pixels = (pixels_only(frames).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [SentFrame(*self._sender.encode(picture)) for picture in pixels]


class _PictureReceiver(FrameReceiver):
    def __init__(self, model: PixelVideo, receiver: VideoReceiver) -> None:
        self.model, self._receiver = model, receiver

    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output for the next frames."""
        pictures = np.stack([self._receiver.decode(payload) for payload in payloads])
        frames = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous() / 255
        with codec_errors(f"images of shape {tuple(frames.shape[1:])}"):
            return self.model.unsplit(frames)


def pixels_only(frames: Tensor | Features) -> Tensor:
    """Return frames; raise ValueError if they are cached features, of which no picture can be made."""
    if isinstance(frames, Features):
        raise ValueError("a video of the images needs the images: these are cached features")
    return frames
