"""The same line with nothing before the bytes: the image itself crosses, as pixels or as a file."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from splitlearn.codecs import CodecError, Raw, pack, unpack
from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.outputs import SplitOutput


class ImageCodec(ABC):
    """Eight-bit images to bytes and back."""

    @abstractmethod
    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the payload of one image `(H, W, 3)`."""

    @abstractmethod
    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the image `(H, W, 3)` of one payload; raise CodecError if it is damaged."""


class Pixels(ImageCodec):
    """The pixels themselves, uncompressed: what an unsplit network on the edge server is sent at worst."""

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the pixels in a container."""
        return pack(image, 256, Raw())

    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the pixels, exactly."""
        return unpack(payload, Raw())[0]


class ImageFile(ImageCodec):
    """An image file format of Pillow: the baselines that any camera writes.

    Args:
        format: `JPEG`, `WEBP`, `AVIF`, `PNG`, or any other name that Pillow writes.
        quality: the format's own quality scale, 1…100 for JPEG, WebP and AVIF; without effect on lossless formats.

    Raises:
        ValueError: if this Pillow does not write the format, or `quality` is not in 0…100.
    """

    def __init__(self, format: str = "JPEG", quality: int = 75) -> None:
        Image.init()
        if format.upper() not in Image.SAVE:
            raise ValueError(f"this Pillow writes no {format!r}; it writes {', '.join(sorted(Image.SAVE))}")
        if not 0 <= quality <= 100:
            raise ValueError(f"quality is a number from 0 to 100, got {quality}")
        self.format, self.quality = format.upper(), quality

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the file."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, self.format, quality=self.quality, optimize=True)
        return file.getvalue()

    def decode(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the decoded file; raise CodecError if it is not a readable file of this format."""
        try:
            with Image.open(io.BytesIO(payload), formats=[self.format]) as image:
                return np.asarray(image.convert("RGB"))
        # ImportError: ultralytics replaces Image.open by a function that looks for a plug-in when a file is unreadable
        except (UnidentifiedImageError, OSError, SyntaxError, ImportError) as error:
            raise CodecError(f"payload is no readable {self.format} file: {error}") from error


class InputModel(CompressionModel):
    """A whole network on the edge server, which is sent the image.

        images → encode ═ payload ═ decode → normalize → network → prediction

    With `Pixels` it is the unsplit network, with `ImageFile` the usual baseline. All of it trains: fine-tune with this.

    Args:
        network: any classifier of images; trainable.
        codec: how the image crosses.
        normalize: applied to images in [0, 1]; None if the network takes them so.
    """

    def __init__(self, network: nn.Module, codec: ImageCodec | None = None, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.network = network
        self.codec = codec if codec is not None else Pixels()
        self.normalize = normalize

    def run(self, images: Tensor) -> SplitOutput:
        """Return the differentiable pass: the network on the images themselves; nothing is lost in training."""
        prediction = self.network(images if self.normalize is None else self.normalize(images))
        return SplitOutput(prediction, features=(), latents=(), features_hat=())

    @torch.inference_mode()
    def compress(self, images: Tensor) -> list[bytes]:
        """Return one payload an image, from its pixels rounded to eight bits."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [self.codec.encode(np.ascontiguousarray(image)) for image in pixels]

    @torch.inference_mode()
    def decompress(self, payloads: Sequence[bytes]) -> Any:
        """Return the network's output on the decoded images.

        Raises:
            CodecError: if a payload is damaged.
        """
        pixels = torch.from_numpy(np.stack([self.codec.decode(payload) for payload in payloads]))
        device = next(self.network.parameters()).device
        return self(pixels.to(device).permute(0, 3, 1, 2).contiguous() / 255)
