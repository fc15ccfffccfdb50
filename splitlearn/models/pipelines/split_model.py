"""Frozen cut network with a feature coder at the cut."""

from __future__ import annotations

from typing import Self

from torch import nn

from splitlearn.codecs import Codec
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.images import Normalize
from splitlearn.models.pipelines.cut_model import CoderModel
from splitlearn.quantizers import Quantizer


class SplitModel(CoderModel):
    """A frozen network with trainable bottlenecks at its cut.

        images → normalize → head → encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail
                 └─ frozen, no graph ─┘ └ trained ┘                                         └ trained ┘ └ frozen ┘

    Every crossing float tensor has its own bottleneck; integer tensors (such as image sizes) cross unchanged.
    Everything goes into one payload per image.

    torchvision detectors take a list of images of any sizes. Each image is resized, padded and sent by itself, so that
    its detections do not depend on the rest of the batch. `run` pads a batch to its largest image.

    Args:
        net: the cut network, from `splitlearn.models.split`; it becomes frozen.
        quantizer: floats to symbols; one for all crossing float tensors, or a list with one for each.
        codec: symbols to bytes; one for all crossing float tensors, or a list with one for each.
        bottleneck: factory of bottlenecks, called with the shape of the features, e.g.
            `partial(DepthwiseSeparable, channels=16)`; by default features are sent unchanged.
        normalize: applied to images in [0, 1] before the head; None for no normalization.

    Attributes:
        coder: bottlenecks, quantizers and codecs between crossing tensors and payload.

    Raises:
        ValueError: if the number of quantizers or codecs differs from the number of crossing float tensors.

    Reference:
        Datta et al. 2022, Figs. 1 and 2; Carra & Neglia 2023 (the same without bottleneck).
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
        """Return the frozen network."""
        return freeze(net)

    def layers(self) -> list[tuple[nn.Module, str]]:
        """Return owner and attribute name of each module with computation, in order of execution."""
        units = [(unit, name) for unit in self.coder.bottlenecks for name in ("encoder", "decoder")]
        trained = [(unit, name) for unit, name in units if list(getattr(unit, name).parameters())]
        return [*self._device_layers(), *trained, (self.net, "tail")]

    def _device_layers(self) -> list[tuple[nn.Module, str]]:
        return [(self.net, "head")]

    def take_images_of(self, model: Self) -> None:
        """Accept the same images as `model`, the original of this copy with replaced layers."""
        self.net.guard(model.net.proof)
