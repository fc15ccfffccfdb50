"""Split network that is trained as a whole, for comparison with training of only the bottleneck."""

from __future__ import annotations

from torch import Tensor

from splitlearn.models.cutting import Split
from splitlearn.models.freeze import thaw
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.outputs import Features


class UnfrozenSplitModel(SplitModel):
    """A `SplitModel` with joint training of network and bottleneck; same arguments.

    Each step runs forward and backward through the whole network, features of the head cannot be cached, and each rate
    needs its own network on the device.

    Reference:
        Datta et al. 2022, Figs. 6 and 7, "full-model training".
    """

    @staticmethod
    def _prepared(net: Split) -> Split:
        return thaw(net).train()  # a trainer does not change modes

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], with their autograd graph.

        Raises:
            ValueError: if given cached features, which are out of date because the head trains.
        """
        if isinstance(images, Features):
            raise ValueError("the head trains, so features that it made before cannot be used: give images")
        crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing
