"""A split network that trains as a whole: what training the bottleneck alone is compared with."""

from __future__ import annotations

from torch import Tensor

from splitlearn.codecs import Codec
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import thaw
from splitlearn.models.pipelines.base import Normalize
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.outputs import Features
from splitlearn.quantizers import Quantizer


class UnfrozenSplitModel(SplitModel):
    """A `SplitModel` whose network trains along with the bottleneck.

    Every step passes through the whole network and back, nothing of the head can be cached, and each rate needs a
    network of its own: weights of the bottleneck alone are no longer all that a device must load.

    Arguments are those of `SplitModel`.

    Reference:
        Datta et al. 2022, Figs. 6 and 7, "full-model training".
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        codec: Codec | list[Codec],
        bottleneck: BottleneckFactory = Identity,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__(net, quantizer, codec, bottleneck, normalize)
        thaw(self.net)
        self.train()  # a trainer leaves modes as it finds them

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], with the graph that made them.

        Raises:
            ValueError: if features are given: those that were made before are not those of a head that trains.
        """
        if isinstance(images, Features):
            raise ValueError("the head trains, so features that it made before cannot be used: give images")
        crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing
