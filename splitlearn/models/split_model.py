"""The whole line: a frozen network cut in two, a bottleneck at the cut, and real bytes between."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec, CodecError
from splitlearn.codecs.base import Payload, as_bytes
from splitlearn.codecs.container import next_context
from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.models.bottleneck import Bottleneck, BottleneckFactory, FeatureShape, Identity
from splitlearn.models.cutting import Split
from splitlearn.models.cutting.detector import DetectorHead
from splitlearn.models.freeze import freeze
from splitlearn.models.images import like, sent, taken
from splitlearn.models.message import join_parts
from splitlearn.models.receive import (
    Carrier,
    Part,
    check_shape,
    codec_errors,
    read_parts,
    too_large,
    too_many_pixels,
    unpacked,
)
from splitlearn.models.send import check_lossless, codec_name, packed
from splitlearn.outputs import Features, SplitOutput, init_args
from splitlearn.quantizers import Quantizer

T = TypeVar("T")


class SplitModel(CompressionModel):
    """A frozen network with trainable bottlenecks at its cut.

        images → normalize → head → encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail
                 └─ frozen, no graph ─┘ └ trained ┘                                         └ trained ┘ └ frozen ┘

    Every float tensor that crosses the cut gets a bottleneck of its own; integer tensors (image sizes, say) cross as
    they are. All of it goes into one payload an image.

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
        codecs: one for each float tensor that crosses, in their order.

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
        super().__init__()
        self._known: tuple[list[nn.Module], list[FeatureShape]] | None = None
        self.net = self._prepared(net)
        floats = sum(dtype.is_floating_point for dtype in net.dtypes)
        self.quantizers = tuple(_one_each(quantizer, floats, "quantizers", net.at))
        self.codecs = tuple(_one_each(codec, floats, "codecs", net.at))
        self.normalize = normalize
        units = [bottleneck if dtype.is_floating_point else Identity for dtype in net.dtypes]
        made = zip(units, net.shapes, net.dtypes, strict=True)
        self.bottlenecks = nn.ModuleList(unit(shape).to(dtype=_weights_type(dtype)) for unit, shape, dtype in made)

    def _prepared(self, net: Split) -> Split:
        """Return the network as it is kept here: frozen."""
        return freeze(net)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """One for each float tensor that crosses, in their order."""
        return tuple(cast("list[Quantizer]", list(self._quantizers)))

    @quantizers.setter
    def quantizers(self, quantizers: Iterable[Quantizer]) -> None:
        self._quantizers = nn.ModuleList(quantizers)

    @property
    def frozen(self) -> bool:
        """Whether nothing of the network trains, so that what its head makes of an image never changes."""
        return not any(parameter.requires_grad for parameter in self.net.parameters())

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], without a graph; or those that were made before."""
        if isinstance(images, Features):
            return tuple(map(self._typed, images.tensors))
        with torch.no_grad():
            crossing: tuple[Tensor, ...] = self.net.head(self._normalized(images))
        return crossing

    def _normalized(self, images: Tensor) -> Tensor:
        """Return images as the head takes them: in the type of its weights, and normalized."""
        typed: Tensor = taken(images, self._like, self.net.input_shape, self.net.by_image)
        return typed if self.normalize is None else self.normalize(typed)

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass; the graph starts at the bottleneck's encoder."""
        return self.run_from(self.features(images))

    def run_from(self, features: tuple[Tensor, ...]) -> SplitOutput:
        """Return the differentiable pass from crossing tensors that the head has made before."""
        latents = self._encode(features)
        quantizers = iter(self.quantizers)
        features_hat = self._decode(next(quantizers)(t) if t.is_floating_point() else t for t in latents)
        floats = tuple(t for t in latents if t.is_floating_point())
        return SplitOutput(self.net.tail(*features_hat), features, floats, features_hat)

    def latents_of(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the float latents of crossing tensors: what the quantizers are given."""
        return [t for t in self._encode(features) if t.is_floating_point()]

    @property
    def latent_shapes(self) -> list[FeatureShape]:
        """Shape of an image's latents, one for each float tensor that crosses."""
        facts, modes = zip(self.net.shapes, self.net.dtypes, strict=True), [(m, m.training) for m in self.modules()]
        device = self._like.device
        with torch.no_grad():
            empty = [torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in facts]
            latents = self.eval().latents_of(list(map(self._typed, empty)))
        for module, mode in modes:
            module.training = mode
        return [tuple(t.shape[1:]) for t in latents]

    def coded_by(self, quantizers: Sequence[Quantizer], codecs: Sequence[Codec]) -> SplitModel:
        """Return a model with these quantizers and codecs that shares network and bottlenecks with this one."""
        model = SplitModel(self.net, list(quantizers), list(codecs), normalize=self.normalize)
        model.bottlenecks = self.bottlenecks
        return model.train(self.training)

    @torch.inference_mode()
    def symbols(self, images: Tensor | Features) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of each float tensor that crosses: what the codec is given."""
        return self.symbols_of(self.latents_of(self.features(images)))

    @torch.inference_mode()
    def symbols_of(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the uint8 symbols of latents that a pass has made already, such as those of `run`."""
        return [q.quantize(latent)[0] for q, latent in zip(self.quantizers, latents, strict=True)]

    @torch.inference_mode()
    def compress(self, images: Tensor | Sequence[Tensor] | Features) -> list[bytes]:
        """Return one payload an image: a container for each tensor that crosses.

        Args:
            images: a batch `(B, C, H, W)`, or what the head has made of it; for a detector also B images `(C, H, W)` of
                any sizes.

        Raises:
            ValueError: if these are no images in [0, 1], a latent holds NaN or infinity, or the cut refuses their size.
        """
        if isinstance(images, Features):
            return self.compress_from(self.features(images))
        batches = sent(images, self.net.input_shape, self.net.by_image)
        return [payload for batch in batches for payload in self.compress_from(self.features(batch))]

    @torch.inference_mode()
    def compress_from(self, features: Sequence[Tensor]) -> list[bytes]:
        """Return the payloads of images whose crossing tensors the head has made before.

        Raises:
            ValueError: if a latent holds NaN or infinity, or is larger than `decompress` takes.
        """
        latents = self._encode(features)
        self._check_sent(latents)
        contexts, columns = [self.context] * len(latents[0]), []
        for latent, carrier in zip(latents, self.carriers, strict=True):
            columns.append(packed(latent, carrier, contexts))
            contexts = list(map(next_context, columns[-1], contexts))
        return [join_parts(parts) for parts in zip(*columns, strict=True)]

    @torch.inference_mode()
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Refuse codecs that give back other symbols than they were given.

        Raises:
            CodecError: if one does.
        """
        shape, by_image = self.net.input_shape, self.net.by_image
        for batch in [images] if isinstance(images, Features) else sent(images, shape, by_image):
            for symbols, quantizer, codec in zip(self.symbols(batch), self.quantizers, self.codecs, strict=True):
                for image in symbols.cpu().numpy():
                    check_lossless(codec, image, quantizer.levels)

    @torch.inference_mode()
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

    @torch.inference_mode()
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`; raises as `decompress`."""
        return self._decode(self.latents_hat(payloads))

    @torch.inference_mode()
    def latents_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the dequantized latents of a batch of payloads: bit for bit those of the eval-mode `run`.

        Raises:
            CodecError: as `decompress`.
        """
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        context, carriers, known = self.context, self.carriers, self._known_shapes
        rows = [read_parts(as_bytes(payload), carriers, context) for payload in payloads]
        for parts in rows:
            self._check_received(parts, known)
        if len({tuple(part.shape for part in parts) for parts in rows}) > 1:
            raise CodecError("these payloads are of images of different sizes: decompress them one size at a time")
        device = self._like.device
        return tuple(unpacked(parts, device) for parts in zip(*rows, strict=True))

    @property
    def carriers(self) -> list[Carrier]:
        """How each tensor crosses."""
        coders = iter(zip(self.codecs, self.quantizers, strict=True))
        pairs = zip(self.net.shapes, self.net.dtypes, strict=True)
        return [Carrier(d, *next(coders)) if d.is_floating_point else Carrier(d, is_scalar=not s) for s, d in pairs]

    @property
    def _known_shapes(self) -> list[FeatureShape]:
        """Shape of each tensor that a payload of the example's size holds; computed once for these bottlenecks."""
        units = list(self.bottlenecks)
        if self._known is None or self._known[0] != units:
            latents = iter(self.latent_shapes)
            pairs = zip(self.net.shapes, self.net.dtypes, strict=True)
            shapes = [next(latents) if d.is_floating_point else shape or (1,) for shape, d in pairs]
            self._known = units, shapes
        return self._known[1]

    def _check_received(self, parts: Sequence[Part], known: Sequence[FeatureShape]) -> None:
        """Raise CodecError unless the tensors of a payload have shapes that this model can have sent."""
        if self.net.by_image:
            known = self._detected_shapes(parts[-1], known)
        for part, unit, shape, number in zip(parts, self._units(), known, range(len(parts)), strict=True):
            if part.shape != shape:
                is_free = isinstance(unit, Identity) and not self.net.by_image
                varying = self.net.varying[number] if is_free else [False] * len(shape)
                check_shape(part.shape, shape, varying, self.net.max_growth)

    def _detected_shapes(self, part: Part, known: Sequence[FeatureShape]) -> list[FeatureShape]:
        """Return the shapes that go with the image sizes in a detector's payload, which must go with each other."""
        check_shape(part.shape, known[-1], [False] * len(known[-1]), 1)
        row = tuple(part.integers().tolist())
        height, width = row[:2]
        if min(height, width) < 1:
            raise CodecError(f"the payload tells of an image of {height}×{width} pixels: it is forged")
        if height * width > self.net.max_pixels:
            raise CodecError(too_many_pixels(height, width, self.net.max_pixels))
        with codec_errors(f"an image of {height}×{width} pixels"):
            expected, features = cast("DetectorHead", self.net.head).expected(height, width)
        if row != expected:
            raise CodecError(f"the payload's image sizes {row} contradict each other: {expected} would fit")
        own = zip(self._units(), (*features, known[-1]), known, strict=True)
        return [shape if isinstance(unit, Identity) else fixed for unit, shape, fixed in own]

    def _check_sent(self, latents: Sequence[Tensor]) -> None:
        """Raise ValueError if an edge server refuses tensors as large as these."""
        if self.net.by_image:
            for height, width in latents[-1][:, :2].tolist():
                if height * width > self.net.max_pixels:
                    raise ValueError(too_many_pixels(height, width, self.net.max_pixels))
            return
        for latent, known in zip(latents, self._known_shapes, strict=True):
            if latent.shape[1:].numel() > self.net.max_growth * math.prod(known):
                raise ValueError(too_large(tuple(latent.shape[1:]), known, self.net.max_growth))

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights: static tables of codecs, levels of calibrated quantizers.

        It is sent once, with the weights; 0 if all tables ride in payloads.
        """
        tables = [table for codec in dict.fromkeys(self.codecs) for table in codec.tables().values()]
        levels = [t for quantizer in dict.fromkeys(self.quantizers) for t in quantizer.state_dict().values()]
        return sum(int(t.nbytes) for t in [*tables, *levels])

    def get_extra_state(self) -> dict[str, Any]:
        """Return the codecs' static tables, so that a checkpoint holds all that its payloads need."""
        tables = [{name: torch.from_numpy(np.array(t)) for name, t in codec.tables().items()} for codec in self.codecs]
        return {"codecs": list(map(codec_name, self.codecs)), "tables": tables}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the tables of a checkpoint, unless this model was given other codecs than those that were saved.

        Raises:
            ValueError: if the checkpoint is of an earlier version, which kept one codec for all tensors.
        """
        if "codecs" not in state:
            raise ValueError(
                "the checkpoint was written by an earlier splitlearn, with one codec for all tensors: train again, or "
                "export it with the version that wrote it"
            )
        if state["codecs"] == list(map(codec_name, self.codecs)):
            self.codecs = tuple(
                codec.with_tables({name: t.numpy() for name, t in tables.items()}) if tables else codec
                for codec, tables in zip(self.codecs, state["tables"], strict=True)
            )

    @property
    def context(self) -> int:
        """What both sides must share besides codecs, as 32 bits: the cut, and the quantizers' settings and levels."""
        shared = [repr((self.net.name, self.net.at)).encode()]
        for quantizer in self.quantizers:
            shared.append(repr((type(quantizer).__qualname__, sorted(init_args(quantizer).items()))).encode())
            shared += [tensor.cpu().numpy().tobytes() for tensor in quantizer.state_dict().values()]
        return zlib.crc32(b"".join(shared))

    def _encode(self, features: Sequence[Tensor]) -> list[Tensor]:
        for unit, tensor in zip(self._units(), features, strict=True):
            if not isinstance(unit, Identity) and tensor.shape[1:] != unit.shape:
                raise ValueError(
                    f"this bottleneck takes features {unit.shape}, these images give {tuple(tensor.shape[1:])}: "
                    f"send images of shape {self.net.input_shape}, or split again with an example of the new size"
                )
        return [unit.encoder(tensor) for unit, tensor in zip(self._units(), features, strict=True)]

    def _decode(self, latents_hat: Iterable[Tensor]) -> tuple[Tensor, ...]:
        typed = map(self._typed, latents_hat)
        return tuple(unit.decoder(tensor) for unit, tensor in zip(self._units(), typed, strict=True))

    def _typed(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the type of the weights, float32 unless the model was cast; integers as they are."""
        return tensor.to(self._like.dtype) if tensor.is_floating_point() else tensor

    @property
    def _like(self) -> Tensor:
        """A tensor of the device and type that the network computes with; INT8 networks have no parameters."""
        return like(self.net)

    def _units(self) -> list[Bottleneck]:
        return cast("list[Bottleneck]", list(self.bottlenecks))


def _weights_type(dtype: torch.dtype) -> torch.dtype | None:
    """Return the type of a bottleneck's weights for features of a type; None for what has no weights."""
    return dtype if dtype.is_floating_point else None


def _one_each(parts: T | list[T], count: int, name: str, at: str) -> list[T]:
    """Return one part for each of `count` tensors."""
    if not isinstance(parts, (list, tuple)):
        return [parts] * count
    if len(parts) != count:
        raise ValueError(f"{count} float tensors cross at {at!r}, but there are {len(parts)} {name}: give one for each")
    return list(parts)
