"""Split network trained as a whole, for comparison with training of the bottleneck alone."""

from __future__ import annotations

from torch import Tensor

from splitlearn.codecs import Codec
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import thaw
from splitlearn.models.images import Normalize
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.outputs import Features
from splitlearn.quantizers import Quantizer


class UnfrozenSplitModel(SplitModel):
    """A `SplitModel` with joint training of network and bottleneck; same arguments.

    Each step runs forward and backward through the whole network, features of the head cannot be cached, and each rate
    needs its own network on the device.

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
        self.train()  # a trainer does not change modes

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], with the graph that made them.

        Raises:
            ValueError: if given cached features, which are out of date because the head trains.
        """
        if isinstance(images, Features):
            raise ValueError("the head trains, so features that it made before cannot be used: give images")
        crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing
