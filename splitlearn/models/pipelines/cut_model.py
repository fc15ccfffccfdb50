"""Base classes of models with a cut network: the head on the device, the tail on the edge server."""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from splitlearn.codecs import Codec
from splitlearn.codecs.base import Payload
from splitlearn.models.coder import FeatureCoder, codec_errors
from splitlearn.models.complexity import Complexity
from splitlearn.models.cutting import Split
from splitlearn.models.images import Normalize, as_input, device_batches, like, typed
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.base import CompressionModel
from splitlearn.models.pipelines.device_steps import HeadStep
from splitlearn.outputs import Features, SplitOutput
from splitlearn.quantizers import Quantizer


@dataclass(frozen=True)
class OperatingPoint:
    """Measured score and size of one rate of a bank.

    Attributes:
        score: accuracy, mean average precision or another quality; higher is better.
        bytes_per_image: mean payload size in bytes.
    """

    score: float
    bytes_per_image: float


class CutModel(CompressionModel):
    """A cut network with one or several feature coders.

    Args:
        net: the cut network, from `splitlearn.models.split`.
        normalize: applied to images in [0, 1] before the head; None for no normalization.

    Attributes:
        points: measured score and size of each rate; empty if not known.
        thresholds: minimum confidence of each exit on the device; empty without exits.
        rate: number of the rate of `compress`; None for the one with the highest score.
        budget: largest payload of `compress` in bytes; None for no limit.
    """

    points: tuple[OperatingPoint, ...] = ()
    thresholds: Sequence[float] = ()
    rate: int | None = None
    budget: int | None = None

    def __init__(self, net: Split, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.net = net
        self.normalize = normalize

    @property
    def frozen(self) -> bool:
        """Whether no parameter of the network trains, so that features of an image can be cached."""
        return not any(parameter.requires_grad for parameter in self.net.parameters())

    def device_steps(self) -> list[HeadStep]:
        """Return the head with the normalization before it."""
        return [HeadStep(self.normalize, self.net.head)]

    @property
    @abstractmethod
    def rates(self) -> Sequence[FeatureCoder]:
        """The feature coder of each rate, in order."""

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], without autograd graph; cached features pass unchanged.

        Behind a head these are its features. In front of an encoder from pixels, it is the normalized image.
        """
        if isinstance(images, Features):
            return tuple(typed(tensor, self.net) for tensor in images.tensors[: len(self.net.shapes)])
        with torch.no_grad():
            crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing

    def wanted(self, images: Tensor | Features, crossing: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is to get: features of the network's own head, without autograd graph.

        Args:
            images: images, or what is cached of them; behind the crossing tensors these may hold the wanted ones too.
            crossing: the result of `features` for them.
        """
        kept = images.tensors[len(crossing) :] if isinstance(images, Features) else ()
        return tuple(typed(tensor, self.net) for tensor in kept) or self.net.wanted(crossing)

    def _normalized(self, images: Tensor) -> Tensor:
        """Return normalized images in the dtype of the head's weights."""
        given: Tensor = as_input(images, like(self.net), self.net.input_shape, self.net.by_image)
        return given if self.normalize is None else self.normalize(given)

    def _run(
        self, coder: FeatureCoder, features: tuple[Tensor, ...], wanted: tuple[Tensor, ...] | None = None
    ) -> SplitOutput:
        """Return the differentiable pass from crossing tensors through a coder, beside those that the tail wants."""
        latents = coder.encoded(features)
        features_hat = coder.restored(coder.quantized(latents))
        floats = tuple(t for t in latents if t.is_floating_point())
        wanted = self.net.wanted(features) if wanted is None else wanted
        return SplitOutput(self.net.tail(*features_hat), wanted, floats, features_hat)

    def _batches(self, images: Tensor | Sequence[Tensor] | Features) -> Sequence[Tensor | Features]:
        """Return the batches for the head."""
        if isinstance(images, Features):
            return [images]
        return device_batches(images, self.net.input_shape, self.net.by_image)

    @deployed
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the prediction for a batch of payloads, from the payloads alone.

        Shapes and sizes in a payload are checked against those that this model can send before anything is decoded.

        Raises:
            CodecError: if a payload is damaged, or comes from another model, codec or quantizer; or if payloads have
                different image sizes and the network is not a detector.
            ValueError: if there are no payloads, or one is not a bytes object.
        """
        if self.net.by_image and len(payloads) > 1:
            return [found for payload in payloads for found in self.decompress([payload])]
        return self.predict(self._received(payloads))

    @deployed
    def predict(self, features_hat: tuple[Tensor, ...]) -> Any:
        """Return the prediction for reconstructed crossing tensors, each `(B, …)`.

        Raises:
            CodecError: if the tail refuses their sizes or integers.
        """
        shapes = [tuple(t.shape[1:]) for t in features_hat]
        if shapes == list(self.net.tail_shapes) and all(t.is_floating_point() for t in features_hat):
            return self.net.tail(*features_hat)
        with codec_errors(f"sizes or integers of features {shapes}"):  # not proven on the example
            return self.net.tail(*features_hat)

    @deployed
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the reconstructed crossing tensors of a batch of payloads, each `(B, …)`; raises as `decompress`."""
        return self._received(payloads)

    @abstractmethod
    def _received(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the result of `features_hat`; called in eval mode and without gradients."""


class CoderModel(CutModel):
    """A cut network with one feature coder.

    Attributes:
        coder: bottlenecks, quantizers and codecs between crossing tensors and payload.
    """

    coder: FeatureCoder

    @property
    def rates(self) -> Sequence[FeatureCoder]:
        """The only coder."""
        return [self.coder]

    @property
    def table_bytes(self) -> int:
        """Size in bytes of code tables and calibrated levels, sent once; as `FeatureCoder.table_bytes`."""
        return self.coder.table_bytes

    def complexity(self) -> Complexity:
        """Return the cost of the bottlenecks per image."""
        return self.coder.complexity()

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass; the autograd graph starts at the bottleneck's encoder."""
        features = self.features(images)
        return self._run(self.coder, features, self.wanted(images, features))

    def coded(self, images: Tensor | Features) -> SplitOutput:
        """Return the pass of `run` up to the tail, which does not run: the prediction is None."""
        features = self.features(images)
        latents = self.coder.encoded(features)
        features_hat = self.coder.restored(self.coder.quantized(latents))
        floats = tuple(t for t in latents if t.is_floating_point())
        return SplitOutput(None, self.wanted(images, features), floats, features_hat)

    def run_from(self, features: tuple[Tensor, ...]) -> SplitOutput:
        """Return the differentiable pass from crossing tensors of the head."""
        return self._run(self.coder, features)

    def coded_by(self, quantizers: Sequence[Quantizer], codecs: Sequence[Codec]) -> Self:
        """Return a model with other quantizers and codecs that shares this model's network and bottlenecks."""
        model = copy.copy(self)
        model._modules, model._buffers = dict(self._modules), dict(self._buffers)
        model.coder = self.coder.coded_by(quantizers, codecs)
        return model

    @deployed
    def symbols(self, images: Tensor | Features) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of each crossing float tensor, the input of the codecs."""
        return self.coder.symbols(self.coder.latents(self.features(images)))

    @deployed
    def compress(self, images: Tensor | Sequence[Tensor] | Features) -> list[bytes]:
        """Return one payload per image, with a container for each crossing tensor.

        Args:
            images: a batch `(B, C, H, W)` or its features; for a detector also B images `(C, H, W)` of any sizes.

        Raises:
            ValueError: if images are not in [0, 1], a latent holds NaN or infinity, or the cut refuses their size.
        """
        return [payload for batch in self._batches(images) for payload in self.coder.compress(self.features(batch))]

    @deployed
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Raise CodecError if a codec does not decode its own payload of these images to the same symbols."""
        for batch in self._batches(images):
            self.coder.check_lossless(self.features(batch))

    def _received(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        return self.coder.decompress(payloads)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        rename_former_keys(state_dict, [prefix + name for name in self.state_dict()])
        super()._load_from_state_dict(state_dict, prefix, *others)


def rename_former_keys(state_dict: dict[str, Any], names: Iterable[str]) -> None:
    """Rename the entries of a splitlearn 0.1 checkpoint to the current names, in place.

    In 0.1, bottlenecks, quantizers and tables were parts of the model itself, not of its coder.

    Args:
        state_dict: state dict of the checkpoint.
        names: current names of the entries to load.
    """
    for name in names:
        old = re.sub(r"(^|(?<=\.))coder\.", "", name, count=1)
        if name not in state_dict and old in state_dict:
            state_dict[name] = state_dict.pop(old)
