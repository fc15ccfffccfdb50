"""What all models have in common that cut a network: the head on the device, the tail on the edge server."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from splitlearn.codecs import Codec
from splitlearn.codecs.base import Payload
from splitlearn.models.coder import FeatureCoder, renamed
from splitlearn.models.complexity import Complexity
from splitlearn.models.cutting import Split
from splitlearn.models.images import like, sent, taken, typed
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.base import CompressionModel, Normalize
from splitlearn.models.receive import codec_errors
from splitlearn.outputs import Features, SplitOutput
from splitlearn.quantizers import Quantizer


class CutModel(CompressionModel):
    """A cut network, with one feature coder or several of them to choose from.

    Args:
        net: the cut network, from `splitlearn.models.split`.
        normalize: applied to images in [0, 1] before the head; None if the network takes them so.
    """

    def __init__(self, net: Split, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.net = net
        self.normalize = normalize

    @property
    def frozen(self) -> bool:
        """Whether nothing of the network trains, so that what its head makes of an image never changes."""
        return not any(parameter.requires_grad for parameter in self.net.parameters())

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], without a graph; or those that were made before."""
        if isinstance(images, Features):
            return tuple(typed(tensor, self.net) for tensor in images.tensors)
        with torch.no_grad():
            crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing

    def _normalized(self, images: Tensor) -> Tensor:
        """Return images as the head takes them: in the type of its weights, and normalized."""
        given: Tensor = taken(images, like(self.net), self.net.input_shape, self.net.by_image)
        return given if self.normalize is None else self.normalize(given)

    def _run(self, coder: FeatureCoder, features: tuple[Tensor, ...]) -> SplitOutput:
        """Return the differentiable pass from crossing tensors, by way of a coder, without bytes."""
        latents = coder.encoded(features)
        features_hat = coder.restored(coder.quantized(latents))
        floats = tuple(t for t in latents if t.is_floating_point())
        return SplitOutput(self.net.tail(*features_hat), features, floats, features_hat)

    def _batches(self, images: Tensor | Sequence[Tensor] | Features) -> Sequence[Tensor | Features]:
        """Return what the head is given at a time."""
        return [images] if isinstance(images, Features) else sent(images, self.net.input_shape, self.net.by_image)

    @deployed
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the prediction for a batch of payloads, from nothing but these.

        Whatever a payload claims is compared with what this model can have sent before anything is decoded.

        Raises:
            CodecError: if a payload is damaged, was written by another codec or quantizer, or cannot come from this
                model; or if the payloads are of images of different sizes, and the network is no detector.
            ValueError: if there are no payloads, or one is no bytes.
        """
        if self.net.by_image and payloads:
            return [found for payload in payloads for found in self.predicted(self.features_hat([payload]))]
        return self.predicted(self.features_hat(payloads))

    @abstractmethod
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`; raises as `decompress`."""

    def predicted(self, features_hat: Sequence[Tensor]) -> Any:
        """Return the output of the tail for tensors that payloads have told.

        Raises:
            CodecError: if the network fails on them, unless they are all floats of the example's size.
        """
        shapes = [tuple(t.shape[1:]) for t in features_hat]
        if shapes == list(self.net.shapes) and all(t.is_floating_point() for t in features_hat):
            return self.net.tail(*features_hat)
        with codec_errors(f"sizes or integers of features {shapes}"):  # that nobody has tried
            return self.net.tail(*features_hat)


class CoderModel(CutModel):
    """A cut network and the feature coder at its cut: the whole line.

    Attributes:
        coder: bottlenecks, quantizers and codecs: what stands between crossing tensors and payload.
    """

    coder: FeatureCoder

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights; see `FeatureCoder.table_bytes`."""
        return self.coder.table_bytes

    def complexity(self) -> Complexity:
        """Return what the bottlenecks add to the network, for one image."""
        return self.coder.complexity()

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

    @deployed
    def symbols(self, images: Tensor | Features) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of each float tensor that crosses: what the codec is given."""
        return self.coder.symbols(self.coder.latents(self.features(images)))

    @deployed
    def compress(self, images: Tensor | Sequence[Tensor] | Features) -> list[bytes]:
        """Return one payload per image: a container for each tensor that crosses.

        Args:
            images: a batch `(B, C, H, W)`, or what the head has made of it; for a detector also B images `(C, H, W)` of
                any sizes.

        Raises:
            ValueError: if these are no images in [0, 1], a latent holds NaN or infinity, or the cut refuses their size.
        """
        return [payload for batch in self._batches(images) for payload in self.coder.compress(self.features(batch))]

    @deployed
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Refuse codecs that give back other symbols than they were given.

        Raises:
            CodecError: if one does.
        """
        for batch in self._batches(images):
            self.coder.check_lossless(self.features(batch))

    @deployed
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`; raises as `decompress`."""
        return self.coder.decompress(payloads)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        renamed(state_dict, [prefix + name for name in self.state_dict()])
        super()._load_from_state_dict(state_dict, prefix, *others)
