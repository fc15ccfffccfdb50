"""The feature coder: all that stands between the tensors that cross a cut and the payload of an image."""

from __future__ import annotations

import copy
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec, CodecError
from splitlearn.codecs.base import Payload
from splitlearn.codecs.message import Carrier, Part, PayloadCoder, Quantized, check_shape, too_large
from splitlearn.models.bottlenecks.bottleneck import Bottleneck, BottleneckFactory, FeatureShape, Identity
from splitlearn.models.complexity import Complexity, count_macs
from splitlearn.models.cutting import Split
from splitlearn.models.images import like, typed
from splitlearn.models.modes import evaluating
from splitlearn.models.receive import codec_errors, dequantized, integers, too_many_pixels
from splitlearn.models.send import check_lossless, codec_name, stored
from splitlearn.outputs import init_args
from splitlearn.quantizers import Quantizer

T = TypeVar("T")


class FeatureCoder(nn.Module):
    """Bottlenecks, quantizers and codecs of all tensors that cross a cut.

        crossing tensors → encoder → latent → quantize → symbols → encode ═ payload
        payload ═ decode → symbols → dequantize → latent_hat → decoder → crossing tensors

    Each float tensor has a bottleneck, a quantizer and a codec; integer tensors (image sizes, say) cross as they are.
    All of it goes into one payload per image. What is exported, put into a bank and packaged for a device is this.

    Args:
        net: the cut network whose tensors cross; the coder refers to it, and holds none of its weights.
        quantizer: floats to symbols; one for all float tensors, or a list with one for each.
        codec: symbols to bytes; likewise.
        bottleneck: makes a bottleneck from the shape of the features; by default the features themselves are sent.

    Attributes:
        bottlenecks: one for each tensor that crosses, in their order.
        codecs: one for each float tensor that crosses, in their order.

    Raises:
        ValueError: if there are not as many quantizers or codecs as float tensors that cross.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        codec: Codec | list[Codec],
        bottleneck: BottleneckFactory = Identity,
    ) -> None:
        super().__init__()
        self._net = (net,)  # in a tuple, which makes it no part of this module: its weights belong to the model
        self._known: tuple[list[nn.Module], list[FeatureShape]] | None = None
        floats = sum(dtype.is_floating_point for dtype in net.dtypes)
        self.quantizers = tuple(_one_each(quantizer, floats, "quantizers", net.at))
        self.codecs = tuple(_one_each(codec, floats, "codecs", net.at))
        units = [bottleneck if dtype.is_floating_point else Identity for dtype in net.dtypes]
        made = zip(units, net.shapes, net.dtypes, strict=True)
        self.bottlenecks = nn.ModuleList(unit(shape).to(dtype=_weights_type(dtype)) for unit, shape, dtype in made)

    @property
    def net(self) -> Split:
        """The cut network."""
        return self._net[0]

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """One for each float tensor that crosses, in their order."""
        return tuple(cast("list[Quantizer]", list(self._quantizers)))

    @quantizers.setter
    def quantizers(self, quantizers: Iterable[Quantizer]) -> None:
        self._quantizers = nn.ModuleList(quantizers)

    def coded_by(self, quantizers: Sequence[Quantizer], codecs: Sequence[Codec]) -> Self:
        """Return a coder with these quantizers and codecs that shares the bottlenecks with this one."""
        coder = type(self)(self.net, list(quantizers), list(codecs))
        coder.bottlenecks = self.bottlenecks
        return coder.train(self.training)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the crossing tensors as the tail is given them, without bytes; differentiable."""
        return self.restored(self.quantized(self.encoded(features)))

    def encoded(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the latents of crossing tensors; integers are latents as they are.

        Raises:
            ValueError: if a bottleneck takes features of another shape.
        """
        for unit, tensor in zip(self._units(), features, strict=True):
            if not unit.takes_any_shape and tensor.shape[1:] != unit.shape:
                raise ValueError(
                    f"this bottleneck takes features {unit.shape}, these images give {tuple(tensor.shape[1:])}: send "
                    f"images of shape {self.net.input_shape}, or split again with an example of the new size"
                )
        return [unit.encoder(tensor) for unit, tensor in zip(self._units(), features, strict=True)]

    def quantized(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return latents as they come back: floats quantized, with straight-through gradients; integers as they are."""
        quantizers = iter(self.quantizers)
        return [next(quantizers)(t) if t.is_floating_point() else t for t in latents]

    def restored(self, latents_hat: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Return the crossing tensors that the decoders make of latents."""
        pairs = zip(self._units(), latents_hat, strict=True)
        return tuple(unit.decoder(typed(latent, self.net)) for unit, latent in pairs)

    def latents(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the float latents of crossing tensors: what the quantizers are given."""
        return [t for t in self.encoded(features) if t.is_floating_point()]

    @property
    def latent_shapes(self) -> list[FeatureShape]:
        """Shape of the latents of one image, one for each float tensor that crosses."""
        shapes = zip(self.net.shapes, self.net.dtypes, strict=True)
        device = like(self.net).device
        with evaluating(self), torch.no_grad():
            empty = [torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in shapes]
            return [tuple(t.shape[1:]) for t in self.latents([typed(tensor, self.net) for tensor in empty])]

    @torch.inference_mode()
    def symbols(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of float latents: what the codecs are given."""
        return [q.quantize(latent)[0] for q, latent in zip(self.quantizers, latents, strict=True)]

    @torch.inference_mode()
    def compress(self, features: Sequence[Tensor]) -> list[bytes]:
        """Return one payload per image: a container for each tensor that crosses.

        Args:
            features: the crossing tensors, each `(B, …)`.

        Raises:
            ValueError: if a latent holds NaN or infinity, or is larger than `decompress` takes.
        """
        latents = self.encoded(features)
        self._check_sent(latents)
        columns = [stored(latent, quantizer) for latent, quantizer in zip(latents, self._quantized_by(), strict=True)]
        coder = self.payload_coder
        return [coder.pack(tensors) for tensors in zip(*columns, strict=True)]

    @torch.inference_mode()
    def decompress(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`.

        Raises:
            CodecError: as `latents_hat`.
            ValueError: likewise.
        """
        return self.restored(self.latents_hat(payloads))

    @torch.inference_mode()
    def latents_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the dequantized latents of a batch of payloads: bit for bit `quantized` of what was sent.

        Whatever a payload claims is compared with what this coder can have sent before anything is decoded.

        Raises:
            CodecError: if a payload is damaged, was written by another codec or quantizer, or cannot come from this
                coder; or if the payloads are of images of different sizes.
            ValueError: if there are no payloads, or one is no bytes.
        """
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        coder = self.payload_coder
        rows = [coder.read(payload) for payload in payloads]
        for parts in rows if self.net.by_image else ():
            self._check_detected(parts)
        if len({tuple(part.shape for part in parts) for parts in rows}) > 1:
            raise CodecError("these payloads are of images of different sizes: decompress them one size at a time")
        device = like(self.net).device
        facts = zip(self._quantized_by(), self.net.dtypes, zip(*rows, strict=True), strict=True)
        return tuple(
            torch.stack([integers(part, dtype) for part in parts]).to(device)
            if quantizer is None
            else dequantized(parts, quantizer, device)
            for quantizer, dtype, parts in facts
        )

    @torch.inference_mode()
    def check_lossless(self, features: Sequence[Tensor]) -> None:
        """Refuse codecs that give back other symbols than they were given.

        Raises:
            CodecError: if one does.
        """
        symbols = self.symbols(self.latents(features))
        for each, quantizer, codec in zip(symbols, self.quantizers, self.codecs, strict=True):
            for image in each.cpu().numpy():
                check_lossless(codec, image, quantizer.levels)

    def complexity(self) -> Complexity:
        """Return parameters and multiply–accumulates of the bottlenecks, for one image."""
        encoder_macs = decoder_macs = 0
        for unit in cast("list[Bottleneck]", list(copy.deepcopy(self.bottlenecks).to("meta").float().eval())):
            features = torch.zeros(1, *unit.shape, device="meta", dtype=torch.float32)
            with torch.no_grad():
                latent = unit.encoder(features)
            encoder_macs += count_macs(unit.encoder, features)
            decoder_macs += count_macs(unit.decoder, latent)
        return Complexity(sum(p.numel() for p in self.bottlenecks.parameters()), encoder_macs, decoder_macs)

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights: static tables of codecs, levels of calibrated quantizers.

        It is sent once, with the weights; 0 if all tables ride in payloads.
        """
        tables = [table for codec in dict.fromkeys(self.codecs) for table in codec.tables().values()]
        levels = [t for quantizer in dict.fromkeys(self.quantizers) for t in quantizer.state_dict().values()]
        return sum(int(t.nbytes) for t in [*tables, *levels])

    @property
    def context(self) -> int:
        """What both sides must share besides codecs, as 32 bits: the cut, and the quantizers' settings and levels."""
        shared = [repr((self.net.name, self.net.at)).encode()]
        for quantizer in self.quantizers:
            shared.append(repr((type(quantizer).__qualname__, sorted(init_args(quantizer).items()))).encode())
            shared += [tensor.cpu().numpy().tobytes() for tensor in quantizer.state_dict().values()]
        return zlib.crc32(b"".join(shared))

    @property
    def payload_coder(self) -> PayloadCoder:
        """What makes payloads of symbols, with the quantizers of this coder; it bounds shapes, but for detectors."""
        return self._payload_coder(self.quantizers)

    @property
    def numpy_half(self) -> PayloadCoder:
        """What makes the same payloads of latents or symbols, and these of payloads, without torch."""
        return self._payload_coder([quantizer.grid or quantizer for quantizer in self.quantizers])

    def _payload_coder(self, quantizers: Sequence[Quantized]) -> PayloadCoder:
        coders = iter(zip(self.codecs, quantizers, strict=True))
        carriers = tuple(
            Carrier(*next(coders)) if d.is_floating_point else Carrier(itemsize=d.itemsize, is_scalar=not s)
            for s, d in zip(self.net.shapes, self.net.dtypes, strict=True)
        )
        if self.net.by_image:
            return PayloadCoder(carriers, self.context)
        shapes, units = tuple(self._known_shapes), self._units()
        free = [self.net.varying[n] if u.takes_any_shape else (False,) * len(shapes[n]) for n, u in enumerate(units)]
        return PayloadCoder(carriers, self.context, shapes, tuple(free), self.net.max_growth)

    def _quantized_by(self) -> list[Quantizer | None]:
        """Return the quantizer of each tensor that crosses; None for integers."""
        quantizers = iter(self.quantizers)
        return [next(quantizers) if dtype.is_floating_point else None for dtype in self.net.dtypes]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the codecs' static tables, so that a checkpoint holds all that its payloads need."""
        tables = [{name: torch.from_numpy(np.array(t)) for name, t in codec.tables().items()} for codec in self.codecs]
        return {"codecs": list(map(codec_name, self.codecs)), "tables": tables}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the tables of a checkpoint, unless this coder was given other codecs than those that were saved.

        Raises:
            ValueError: if the checkpoint is of an early version, which kept one codec for all tensors.
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
    def _known_shapes(self) -> list[FeatureShape]:
        """Shape of each tensor that a payload of the example's size holds; computed once for these bottlenecks."""
        units = list(self.bottlenecks)
        if self._known is None or self._known[0] != units:
            latents = iter(self.latent_shapes)
            pairs = zip(self.net.shapes, self.net.dtypes, strict=True)
            shapes = [next(latents) if d.is_floating_point else shape or (1,) for shape, d in pairs]
            self._known = units, shapes
        return self._known[1]

    def _check_detected(self, parts: Sequence[Part]) -> None:
        """Raise CodecError unless the tensors of a detector's payload have shapes that this coder can have sent."""
        shapes = self._detected_shapes(parts[-1], self._known_shapes)
        for part, shape in zip(parts, shapes, strict=True):
            check_shape(part.shape, shape, [False] * len(shape), 1)

    def _detected_shapes(self, part: Part, known: Sequence[FeatureShape]) -> list[FeatureShape]:
        """Return the shapes that go with the image sizes in a detector's payload, which must go with each other."""
        check_shape(part.shape, known[-1], [False] * len(known[-1]), 1)
        row = tuple(integers(part, self.net.dtypes[-1]).tolist())
        height, width = row[:2]
        if min(height, width) < 1:
            raise CodecError(f"the payload tells of an image of {height}×{width} pixels: it is forged")
        if height * width > self.net.max_pixels:
            raise CodecError(too_many_pixels(height, width, self.net.max_pixels))
        with codec_errors(f"an image of {height}×{width} pixels"):
            expected, features = self.net.expected(height, width)
        if row != expected:
            raise CodecError(f"the payload's image sizes {row} contradict each other: {expected} would fit")
        own = zip(self._units(), (*features, known[-1]), known, strict=True)
        return [shape if unit.takes_any_shape else fixed for unit, shape, fixed in own]

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

    def _units(self) -> list[Bottleneck]:
        return cast("list[Bottleneck]", list(self.bottlenecks))


def renamed(state_dict: dict[str, Any], names: Iterable[str]) -> None:
    """Give what a checkpoint of splitlearn 0.1 holds the names that it has now, in place.

    Then, bottlenecks, quantizers and tables were parts of the model itself, not of its coder.

    Args:
        state_dict: of the checkpoint.
        names: of what is to be loaded.
    """
    for name in names:
        old = re.sub(r"(^|(?<=\.))coder\.", "", name, count=1)
        if name not in state_dict and old in state_dict:
            state_dict[name] = state_dict.pop(old)


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
