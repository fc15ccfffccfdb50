"""The same line with nothing before the bytes: the image itself crosses, as pixels or as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from splitlearn.codecs import CodecError
from splitlearn.codecs.base import Payload, as_bytes
from splitlearn.models.cutting import is_detector
from splitlearn.models.images import like, sent, taken
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.base import CompressionModel, Normalize
from splitlearn.models.pipelines.image_codec import ImageCodec, Pixels
from splitlearn.models.receive import codec_errors, too_many_pixels
from splitlearn.outputs import SplitOutput


class InputModel(CompressionModel):
    """A whole network on the edge server, which is sent the image.

        images → encode ═ payload ═ decode → normalize → network → prediction

    With `Pixels` it is the unsplit network, with `ImageFile` the usual baseline. All of it trains: fine-tune with this.
    torchvision's detectors take images of any sizes, one by one.

    Args:
        network: any network of images; trainable.
        codec: how the image crosses.
        normalize: applied to images in [0, 1]; None if the network takes them so.
        channels: of the images that the network takes: 3, or 1 for grey ones, which cross as grey pictures.

    Raises:
        ValueError: if pictures have no such number of channels.
    """

    def __init__(
        self,
        network: nn.Module,
        codec: ImageCodec | None = None,
        normalize: Normalize | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(
                f"pictures have 1 or 3 channels, got {channels}: send other images from a cut of the network"
            )
        self.channels = channels
        self.network = network
        self.codec = codec if codec is not None else Pixels()
        self.normalize = normalize

    def run(self, images: Tensor) -> SplitOutput:
        """Return the differentiable pass: the network on the images themselves; nothing is lost in training."""
        typed = taken(images, like(self.network), by_image=is_detector(self.network))
        prediction = self.network(typed if self.normalize is None else self.normalize(typed))
        return SplitOutput(prediction, features=(), latents=(), features_hat=())

    @deployed
    def compress(self, images: Tensor | Sequence[Tensor]) -> list[bytes]:
        """Return one payload an image, from its pixels rounded to eight bits.

        Args:
            images: a batch `(B, channels, H, W)`, or a list of images `(channels, H, W)`, which may be of any sizes.

        Raises:
            ValueError: if these are no images in [0, 1], have other channels, or one has more pixels than the codec's
                `max_pixels`, which `decompress` does not take.
        """
        images = [batch[0].float() for batch in sent(images, by_image=True)]
        for image in images:
            if len(image) != self.channels:
                raise ValueError(
                    f"this model takes images of {self.channels} channel(s), not of {len(image)}: set its `channels` "
                    "to what the network takes, or bring images to that"
                )
            if image.shape[-2:].numel() > self.codec.max_pixels:
                raise ValueError(too_many_pixels(image.shape[-2], image.shape[-1], self.codec.max_pixels))
        pixels = [(image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0) for image in images]
        return [self.codec.encode(np.ascontiguousarray(_picture(image.cpu().numpy()))) for image in pixels]

    @deployed
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output on the decoded images.

        Raises:
            CodecError: if a payload is damaged, its image has more pixels than the codec's `max_pixels`, or the network
                fails on an image of its size; or if the images are of different sizes, and the network is no detector.
            ValueError: if there are no payloads, or one is no bytes.
        """
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        device = like(self.network).device
        decoded = [_channels(self.codec.decode(as_bytes(payload)), self.channels) for payload in payloads]
        pixels = [torch.tensor(image, device=device) for image in decoded]
        images = [image.permute(2, 0, 1).contiguous().float() / 255 for image in pixels]
        if is_detector(self.network):
            return [found for image in images for found in self._predicted(image[None])]
        if len({image.shape for image in images}) > 1:
            raise CodecError("these payloads are of images of different sizes: decompress them one size at a time")
        return self._predicted(torch.stack(images))

    def _predicted(self, images: Tensor) -> Any:
        with codec_errors(f"images of shape {tuple(images.shape[1:])}"):
            return self(images)


def _picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image `(H, W, 1)` as a grey picture `(H, W)`, any other as it is."""
    return image[..., 0] if image.shape[2] == 1 else image


def _channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return a picture, `(H, W)` or `(H, W, 3)`, as `(H, W, channels)`.

    Formats that know no grey bring it back as colours that are about equal: their brightness is taken.
    """
    if image.ndim == 3 and channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))
    return image if image.ndim == 3 else np.repeat(image[..., None], channels, axis=2)
