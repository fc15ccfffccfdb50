"""The same line with nothing before the bytes: the image itself crosses, as pixels or as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.models.image_codec import ImageCodec, Pixels
from splitlearn.outputs import SplitOutput


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
        pixels = torch.from_numpy(np.stack([_colour(self.codec.decode(payload)) for payload in payloads]))
        device = next(self.network.parameters()).device
        return self(pixels.to(device).permute(0, 3, 1, 2).contiguous() / 255)


def _colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey image `(H, W)` as `(H, W, 3)`, any other as it is."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
