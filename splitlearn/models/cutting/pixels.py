"""A cut network whose image crosses to an encoder from pixels, which stands in for the head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from splitlearn.models.cutting.cut import Split
from splitlearn.models.cutting.sizes import FeatureShape
from splitlearn.models.images import like


class PixelSplit(Split):
    """A cut network whose head passes the image on: an encoder takes it, and a decoder gives what the tail takes.

    ```
    images → [encoder from pixels ═ decoder] → crossing tensors → tail → the model's output
           └→ teacher, the network's own head → crossing tensors, for training only
    ```
    Args:
        net: the network, cut where the decoder's output enters it.

    Attributes:
        teacher: the network's own head.

    Raises:
        ValueError: if other than one float tensor crosses the cut.
    """

    crosses = "pixels"

    def __init__(self, net: Split) -> None:
        if net.by_image or len(net.shapes) != 1 or not net.dtypes[0].is_floating_point:
            what = "images of any sizes" if net.by_image else f"{len(net.shapes)} tensors"
            raise ValueError(
                f"an encoder from pixels needs a cut that one float tensor crosses, and {what} cross at {net.at!r} of "
                f"{net.name}: cut at another module, or put a bottleneck behind the head, in a SplitModel"
            )
        shape, dtype = tuple(net.input_shape), like(net).dtype
        super().__init__(
            net.name, net.at, _Same(), net.tail, (shape,), (dtype,), shape, net.method, net.by_image, net.proof
        )
        self.teacher = net.head
        self._tail_shapes = tuple(net.shapes)
        self.max_growth, self.max_pixels = net.max_growth, net.max_pixels

    @property
    def tail_shapes(self) -> tuple[FeatureShape, ...]:
        """Shape of each tensor that the tail takes, for one image of the example."""
        return self._tail_shapes

    def wanted(self, crossing: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the network's own head makes of images, which the decoder is to restore; without gradients."""
        with torch.no_grad():
            found: tuple[Tensor, ...] = self.teacher(*crossing)
        return found

    def forward(self, images: Tensor) -> Any:
        """Return the network's output for `images`, computed by its own halves."""
        return self.tail(*self.teacher(images))


def from_pixels(net: Split) -> PixelSplit:
    """Return a cut network whose image crosses; such a one unchanged."""
    return net if isinstance(net, PixelSplit) else PixelSplit(net)


class _Same(nn.Module):
    """Head that returns the image as the only crossing tensor."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images,)
