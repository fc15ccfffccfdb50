"""The whole line: a frozen network cut in two, a feature coder at the cut, and real bytes between."""

from __future__ import annotations

from typing import Self

from torch import nn

from splitlearn.codecs import Codec
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.pipelines.base import Normalize
from splitlearn.models.pipelines.cut_model import CoderModel
from splitlearn.quantizers import Quantizer


class SplitModel(CoderModel):
    """A frozen network with trainable bottlenecks at its cut.

        images → normalize → head → encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail
                 └─ frozen, no graph ─┘ └ trained ┘                                         └ trained ┘ └ frozen ┘

    Every float tensor that crosses the cut gets a bottleneck of its own; integer tensors (image sizes, say) cross as
    they are. All of it goes into one payload per image.

    torchvision's detectors take images of any sizes, as a list: each is resized, padded, sent and looked at by itself,
    so that what is found on it does not depend on its neighbours. `run` pads a batch to its largest image.

    Args:
        net: the cut network, from `splitlearn.models.split`; it is frozen here, for good.
        quantizer: floats to symbols; one for all float tensors that cross, or a list with one for each.
        codec: symbols to bytes; likewise.
        bottleneck: makes a bottleneck from the shape of the features, e.g. `partial(DepthwiseSeparable, channels=16)`;
            by default the features themselves are sent.
        normalize: applied to images in [0, 1] before the head; None if the network takes them so.

    Attributes:
        coder: bottlenecks, quantizers and codecs: what stands between crossing tensors and payload.

    Raises:
        ValueError: if there are not as many quantizers or codecs as float tensors that cross.

    Reference:
        Datta et al. 2022, Figs. 1 and 2; Carra & Neglia 2023 is this with the identity as bottleneck.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        codec: Codec | list[Codec],
        bottleneck: BottleneckFactory = Identity,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__(self._prepared(net), normalize)
        self.coder = FeatureCoder(self.net, quantizer, codec, bottleneck)

    @staticmethod
    def _prepared(net: Split) -> Split:
        """Return the network as it is kept here: frozen."""
        return freeze(net)

    def layers(self) -> list[tuple[nn.Module, str]]:
        """Return owner and name of each module that computes, in the order in which they run."""
        units = [(unit, name) for unit in self.coder.bottlenecks for name in ("encoder", "decoder")]
        trained = [(unit, name) for unit, name in units if list(getattr(unit, name).parameters())]
        return [*self._device_layers(), *trained, (self.net, "tail")]

    def _device_layers(self) -> list[tuple[nn.Module, str]]:
        return [(self.net, "head")]

    def take_images_of(self, model: Self) -> None:
        """Take the images that `model` takes, whose layers have been replaced here by others of the same outputs."""
        self.net.guard(model.net.proof)
