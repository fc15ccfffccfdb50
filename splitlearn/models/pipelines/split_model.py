"""The whole line: a frozen network cut in two, a feature coder at the cut, and real bytes between."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from splitlearn.codecs import Codec
from splitlearn.codecs.base import Payload
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.coder import FeatureCoder, renamed
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.pipelines.base import Normalize
from splitlearn.models.pipelines.cut_model import CutModel
from splitlearn.outputs import Features, SplitOutput
from splitlearn.quantizers import Quantizer


class SplitModel(CutModel):
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

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights; see `FeatureCoder.table_bytes`."""
        return self.coder.table_bytes

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass; the graph starts at the bottleneck's encoder."""
        return self.run_from(self.features(images))

    def run_from(self, features: tuple[Tensor, ...]) -> SplitOutput:
        """Return the differentiable pass from crossing tensors that the head has made before."""
        return self._run(self.coder, features)

    def coded_by(self, quantizers: Sequence[Quantizer], codecs: Sequence[Codec]) -> Self:
        """Return a model with these quantizers and codecs that shares network and bottlenecks with this one."""
        model = copy.copy(self)
        model._modules, model._buffers = dict(self._modules), dict(self._buffers)
        model.coder = self.coder.coded_by(quantizers, codecs)
        return model

    @torch.inference_mode()
    def symbols(self, images: Tensor | Features) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of each float tensor that crosses: what the codec is given."""
        return self.coder.symbols(self.coder.latents(self.features(images)))

    @torch.inference_mode()
    def compress(self, images: Tensor | Sequence[Tensor] | Features) -> list[bytes]:
        """Return one payload per image: a container for each tensor that crosses.

        Args:
            images: a batch `(B, C, H, W)`, or what the head has made of it; for a detector also B images `(C, H, W)` of
                any sizes.

        Raises:
            ValueError: if these are no images in [0, 1], a latent holds NaN or infinity, or the cut refuses their size.
        """
        return [payload for batch in self._batches(images) for payload in self.coder.compress(self.features(batch))]

    @torch.inference_mode()
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Refuse codecs that give back other symbols than they were given.

        Raises:
            CodecError: if one does.
        """
        for batch in self._batches(images):
            self.coder.check_lossless(self.features(batch))

    @torch.inference_mode()
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`; raises as `decompress`."""
        return self.coder.decompress(payloads)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        renamed(state_dict, [prefix + name for name in self.state_dict()])
        super()._load_from_state_dict(state_dict, prefix, *others)
