"""Unsplit network on the edge server: the image itself is sent, as pixels or as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from splitlearn.codecs import CodecError, ImageCodec, Pixels
from splitlearn.codecs.base import Payload
from splitlearn.codecs.container import as_bytes
from splitlearn.models.coder import codec_errors
from splitlearn.models.cutting import is_detector
from splitlearn.models.images import Normalize, as_input, device_batches, like
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.base import CompressionModel
from splitlearn.outputs import SplitOutput, too_many_pixels


class InputModel(CompressionModel):
    """An unsplit network on the edge server; the payload is the image.

        images → encode ═ payload ═ decode → normalize → network → prediction

    `ImageFile` gives the usual baselines (JPEG, WebP, …), `Pixels` the uncompressed one. The whole network trains, so
    this class also serves for fine-tuning. torchvision detectors take images of any sizes, one by one.

    Args:
        network: any network of images; trainable.
        codec: codec of images; `Pixels` by default.
        normalize: applied to images in [0, 1]; None for no normalization.
        channels: channels of the network's images: 3, or 1 for grey images, which are sent as grey pictures.

    Raises:
        ValueError: if `channels` is not 1 or 3.
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
        """Return the differentiable pass: the network on the original images, without compression."""
        typed = as_input(images, like(self.network), by_image=is_detector(self.network))
        prediction = self.network(typed if self.normalize is None else self.normalize(typed))
        return SplitOutput(prediction, features=(), latents=(), features_hat=())

    @deployed
    def compress(self, images: Tensor | Sequence[Tensor]) -> list[bytes]:
        """Return one payload per image, from its pixels rounded to 8 bits.

        Args:
            images: a batch `(B, channels, H, W)`, or a list of images `(channels, H, W)` of any sizes.

        Raises:
            ValueError: if images are not in [0, 1], have other channels, or have more than the codec's `max_pixels`.
        """
        images = [batch[0].float() for batch in device_batches(images, by_image=True)]
        for image in images:
            if len(image) != self.channels:
                raise ValueError(
                    f"this model takes images of {self.channels} channel(s), not of {len(image)}: set its `channels` "
                    "to the network's number, or convert the images"
                )
            if image.shape[-2:].numel() > self.codec.max_pixels:
                raise ValueError(too_many_pixels(image.shape[-2], image.shape[-1], self.codec.max_pixels))
        pixels = [(image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0) for image in images]
        return [self.codec.encode(np.ascontiguousarray(_picture(image.cpu().numpy()))) for image in pixels]

    @deployed
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the network's output on the decoded images.

        Raises:
            CodecError: if a payload is damaged, its image has more than the codec's `max_pixels`, or the network
                fails on its size; or if images have different sizes and the network is not a detector.
            ValueError: if there are no payloads, or one is not a bytes object.
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
    """Return an image `(H, W, 1)` as a grey picture `(H, W)`, any other image unchanged."""
    return image[..., 0] if image.shape[2] == 1 else image


def _channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return a picture, `(H, W)` or `(H, W, 3)`, as `(H, W, channels)`.

    Formats without grey images return nearly equal colours, which are converted to luminance.
    """
    if image.ndim == 3 and channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))
    return image if image.ndim == 3 else np.repeat(image[..., None], channels, axis=2)
