"""Feature coder: conversion between the crossing tensors of a cut and payloads."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splitlearn.codecs import Codec, CodecError
from splitlearn.codecs.base import Payload
from splitlearn.codecs.payload_coder import Carrier, Part, PayloadCoder, Quantized, check_shape, too_large
from splitlearn.models.bottlenecks.bottleneck import Bottleneck, BottleneckFactory, FeatureShape, Identity
from splitlearn.models.complexity import Complexity, count_macs
from splitlearn.models.cutting import Split
from splitlearn.models.images import like, typed
from splitlearn.models.modes import evaluating
from splitlearn.outputs import argument_names, init_args, too_many_pixels
from splitlearn.quantizers import Quantizer

T = TypeVar("T")
Symbols = tuple[NDArray[np.uint8], tuple[float, ...]]  # of one tensor of one image, with the floats of its quantizer


class FeatureCoder(nn.Module):
    """Converts the tensors that cross a cut to one payload per image and back.

        crossing tensors → encoder → latent → quantize → symbols → encode ═ payload
        payload ═ decode → symbols → dequantize → latent_hat → decoder → crossing tensors

    Each float tensor has a bottleneck (encoder and decoder), a quantizer and a codec; integer tensors (such as image
    sizes) cross unchanged. `SplitModel` builds the coder. Exported models contain it, banks (`VariableRateModel`)
    contain several, and device packages contain its `numpy_half`.

    Args:
        net: the cut network; the coder refers to it and does not contain its weights.
        quantizer: floats to symbols; one for all float tensors, or a list with one for each.
        codec: symbols to bytes; one for all float tensors, or a list with one for each.
        bottleneck: factory of bottlenecks, called once per float tensor with its shape without batch, e.g. `(C, H, W)`;
            by default features are sent unchanged.

    Attributes:
        bottlenecks: one for each crossing tensor, in order; `Identity` for integer tensors.
        codecs: one for each crossing float tensor, in order.

    Raises:
        ValueError: if the number of quantizers or codecs differs from the number of crossing float tensors.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        codec: Codec | list[Codec],
        bottleneck: BottleneckFactory = Identity,
    ) -> None:
        super().__init__()
        self._net = (net,)  # a tuple, so that the network is not registered as a submodule
        self._known: tuple[list[nn.Module], list[FeatureShape]] | None = None
        self._carried: tuple[object, tuple[Carrier, ...]] | None = None
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
        """The quantizer of each crossing float tensor, in order."""
        return tuple(cast("list[Quantizer]", list(self._quantizers)))

    @quantizers.setter
    def quantizers(self, quantizers: Iterable[Quantizer]) -> None:
        self._quantizers = nn.ModuleList(quantizers)

    def coded_by(self, quantizers: Sequence[Quantizer], codecs: Sequence[Codec]) -> Self:
        """Return a coder with these quantizers and codecs and the same bottleneck objects."""
        coder = type(self)(self.net, list(quantizers), list(codecs))
        coder.bottlenecks = self.bottlenecks
        return coder.train(self.training)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the reconstructed crossing tensors, the input of the tail. Differentiable; makes no bytes."""
        return self.restored(self.quantized(self.encoded(features)))

    def encoded(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the latents of crossing tensors; integer tensors pass unchanged.

        Raises:
            ValueError: if features do not have the shape that a bottleneck requires.
        """
        for unit, tensor in zip(self._units(), features, strict=True):
            if not unit.takes_any_shape and tensor.shape[1:] != unit.shape:
                raise ValueError(
                    f"this bottleneck takes features {unit.shape}, these images give {tuple(tensor.shape[1:])}: send "
                    f"images of shape {self.net.input_shape}, or split again with an example of the new size"
                )
        return [unit.encoder(tensor) for unit, tensor in zip(self._units(), features, strict=True)]

    def quantized(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return quantized latents, with straight-through gradients; integer tensors pass unchanged."""
        quantizers = iter(self.quantizers)
        return [next(quantizers)(t) if t.is_floating_point() else t for t in latents]

    def restored(self, latents_hat: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Return the crossing tensors that the decoders reconstruct from latents."""
        pairs = zip(self._units(), latents_hat, strict=True)
        return tuple([unit.decoder(typed(latent, self.net)) for unit, latent in pairs])

    def latents(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the latents of the float tensors, the input of the quantizers."""
        return [t for t in self.encoded(features) if t.is_floating_point()]

    @property
    def latent_shapes(self) -> list[FeatureShape]:
        """Shape of one image's latent, for each crossing float tensor."""
        shapes = zip(self.net.shapes, self.net.dtypes, strict=True)
        device = like(self.net).device
        with evaluating(self), torch.no_grad():
            empty = [torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in shapes]
            return [tuple(t.shape[1:]) for t in self.latents([typed(tensor, self.net) for tensor in empty])]

    @torch.inference_mode()
    def symbols(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of float latents, the input of the codecs."""
        return [q.quantize(latent)[0] for q, latent in zip(self.quantizers, latents, strict=True)]

    @torch.inference_mode()
    def compress(self, features: Sequence[Tensor]) -> list[bytes]:
        """Return one payload per image, with a container for each crossing tensor.

        Args:
            features: the crossing tensors, each `(B, …)`.

        Raises:
            ValueError: if a latent holds NaN or infinity, or is larger than `decompress` accepts.
        """
        latents = self.encoded(features)
        self._check_sent(latents)
        columns = list(map(container_contents, latents, self._quantized_by()))
        return list(map(self.payload_coder.pack, zip(*columns, strict=True)))

    @torch.inference_mode()
    def decompress(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the reconstructed crossing tensors of a batch of payloads, each `(B, …)`; raises as `latents_hat`."""
        return self.restored(self.latents_hat(payloads))

    @torch.inference_mode()
    def latents_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the dequantized latents of a batch of payloads, bit for bit equal to the sender's `quantized`.

        Before anything is decoded, the shapes and sizes in a payload are checked against those that this coder can
        send.

        Raises:
            CodecError: if a payload is damaged or comes from another coder, codec or quantizer, or if the payloads are
                of images of different sizes.
            ValueError: if there are no payloads, or one is not a bytes object.
        """
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        rows = list(map(self.payload_coder.read, payloads))
        for parts in rows if self.net.by_image else ():
            self._check_detected(parts)
        if len({tuple(part.shape for part in parts) for parts in rows}) > 1:
            raise CodecError("these payloads are of images of different sizes: decompress them one size at a time")
        return self.dequantized([[(part.decoded(), part.header.floats) for part in parts] for parts in rows])

    def dequantized(self, images: Sequence[Sequence[Symbols]]) -> tuple[Tensor, ...]:
        """Return the latents of a batch, from what `PayloadCoder.unpack` returns for each image."""
        facts = zip(zip(*images, strict=True), self._quantized_by(), self.net.dtypes, self.net.shapes, strict=True)
        device = like(self.net).device
        return tuple([received(tensors, q, dtype, not shape, device) for tensors, q, dtype, shape in facts])

    @torch.inference_mode()
    def check_lossless(self, features: Sequence[Tensor]) -> None:
        """Raise CodecError if a codec does not decode its own payload to the same symbols."""
        symbols = self.symbols(self.latents(features))
        for each, quantizer, codec in zip(symbols, self.quantizers, self.codecs, strict=True):
            for image in each.cpu().numpy():
                check_lossless(codec, image, quantizer.levels)

    def complexity(self) -> Complexity:
        """Return parameters and multiply–accumulates of the bottlenecks per image."""
        units = cast("list[Bottleneck]", list(copy.deepcopy(self.bottlenecks).to("meta").float().eval()))
        encoder_macs = decoder_macs = 0
        for unit in units:
            features = torch.zeros(1, *unit.shape, device="meta", dtype=torch.float32)
            with torch.no_grad():
                latent = unit.encoder(features)
            encoder_macs += count_macs(unit.encoder, features)
            decoder_macs += count_macs(unit.decoder, latent)
        whole, device, edge = (
            sum(p.numel() for part in parts for p in part.parameters())
            for parts in (units, [unit.encoder for unit in units], [unit.decoder for unit in units])
        )
        return Complexity(whole, device, edge, encoder_macs, decoder_macs)

    @property
    def table_bytes(self) -> int:
        """Size in bytes of static code tables and calibrated levels, which are sent once and not in payloads."""
        return sum(table.nbytes for table in self.sent_once)

    @property
    def sent_once(self) -> list[NDArray[Any]]:
        """The static code tables, and the bytes of the calibrated levels."""
        tables = [table for codec in dict.fromkeys(self.codecs) for table in codec.tables().values()]
        levels = [t for quantizer in dict.fromkeys(self.quantizers) for t in quantizer.state_dict().values()]
        return [*tables, *(tensor.cpu().reshape(-1).view(torch.uint8).numpy() for tensor in levels)]

    @property
    def context(self) -> int:
        """32-bit checksum of the cut and of the quantizers' settings and levels, which both sides must share."""
        shared = [repr((self.net.name, self.net.at)).encode()]
        for quantizer in self.quantizers:
            arguments = sorted((name, getattr(quantizer, name)) for name in argument_names(type(quantizer)))
            shared.append(repr((type(quantizer).__qualname__, arguments)).encode())
            shared += [tensor.cpu().numpy().tobytes() for tensor in quantizer.state_dict().values()]
        return zlib.crc32(b"".join(shared))

    @property
    def payload_coder(self) -> PayloadCoder:
        """Coder between symbols and payloads, with this coder's quantizers; it checks shapes except for detectors."""
        parts = self.codecs, self.quantizers
        if self._carried is None or self._carried[0] != parts:
            self._carried = parts, self._carriers(self.quantizers)
        return self._payload_coder(self._carried[1])

    @property
    def numpy_half(self) -> PayloadCoder:
        """A `PayloadCoder` that makes and reads the same payloads without torch, from latents or symbols."""
        return self._payload_coder(self._carriers([quantizer.grid or quantizer for quantizer in self.quantizers]))

    def _carriers(self, quantizers: Sequence[Quantized]) -> tuple[Carrier, ...]:
        """Return the coding of each crossing tensor; levels are read from the quantizer at each use."""
        coders = iter(zip(self.codecs, quantizers, strict=True))
        return tuple(
            Carrier(*next(coders)) if d.is_floating_point else Carrier(itemsize=d.itemsize, is_scalar=not s)
            for s, d in zip(self.net.shapes, self.net.dtypes, strict=True)
        )

    def _payload_coder(self, carriers: tuple[Carrier, ...]) -> PayloadCoder:
        if self.net.by_image:
            return PayloadCoder(carriers, self.context)
        shapes, units = tuple(self._known_shapes), self._units()
        free = [self.net.varying[n] if u.takes_any_shape else (False,) * len(shapes[n]) for n, u in enumerate(units)]
        return PayloadCoder(carriers, self.context, shapes, tuple(free), self.net.max_growth)

    def _quantized_by(self) -> list[Quantizer | None]:
        """Return the quantizer of each crossing tensor; None for integer tensors."""
        quantizers = iter(self.quantizers)
        return [next(quantizers) if dtype.is_floating_point else None for dtype in self.net.dtypes]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the codecs' static tables, which a checkpoint needs to decode its payloads."""
        tables = [{name: torch.from_numpy(np.array(t)) for name, t in codec.tables().items()} for codec in self.codecs]
        return {"codecs": list(map(codec_name, self.codecs)), "tables": tables}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Load the static tables of a checkpoint; they are ignored if this coder has different codecs.

        Raises:
            ValueError: if the checkpoint comes from an early version with a single codec for all tensors.
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
        """Shape of each tensor in a payload for the example's size; computed once per set of bottlenecks."""
        units = list(self.bottlenecks)
        if self._known is None or self._known[0] != units:
            latents = iter(self.latent_shapes)
            pairs = zip(self.net.shapes, self.net.dtypes, strict=True)
            shapes = [next(latents) if d.is_floating_point else shape or (1,) for shape, d in pairs]
            self._known = units, shapes
        return self._known[1]

    def _check_detected(self, parts: Sequence[Part]) -> None:
        """Raise CodecError unless the tensors of a detector's payload have shapes that this coder can send."""
        shapes = self._detected_shapes(parts[-1], self._known_shapes)
        for part, shape in zip(parts, shapes, strict=True):
            check_shape(part.shape, shape, [False] * len(shape), 1)

    def _detected_shapes(self, part: Part, known: Sequence[FeatureShape]) -> list[FeatureShape]:
        """Return the tensor shapes for the image sizes in a detector's payload; raise CodecError if sizes conflict."""
        check_shape(part.shape, known[-1], [False] * len(known[-1]), 1)
        row = tuple(integers(part.decoded(), self.net.dtypes[-1], part.carrier.is_scalar).tolist())
        height, width = row[:2]
        if min(height, width) < 1:
            raise CodecError(f"the payload claims an image of {height}×{width} pixels: it is forged")
        if height * width > self.net.max_pixels:
            raise CodecError(too_many_pixels(height, width, self.net.max_pixels))
        with codec_errors(f"an image of {height}×{width} pixels"):
            expected, features = self.net.expected(height, width)
        if row != expected:
            raise CodecError(f"the payload's image sizes {row} contradict each other: {expected} would fit")
        own = zip(self._units(), (*features, known[-1]), known, strict=True)
        return [shape if unit.takes_any_shape else fixed for unit, shape, fixed in own]

    def _check_sent(self, latents: Sequence[Tensor]) -> None:
        """Raise ValueError if an edge server would refuse tensors of this size."""
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


def container_contents(tensor: Tensor, quantizer: Quantizer | None) -> list[tuple[NDArray[np.uint8], list[float]]]:
    """Return the content of one tensor's container for each image: symbols and floats, or the bytes of integers."""
    if quantizer is None:
        return [(np.ascontiguousarray(row).view(np.uint8), []) for row in tensor.cpu().numpy()]
    symbols, floats = quantizer.quantize(tensor)
    return list(zip(symbols.cpu().numpy(), floats.tolist(), strict=True))


def check_lossless(codec: Codec, symbols: NDArray[np.uint8], levels: int) -> None:
    """Raise CodecError if a codec does not decode its own payload to the same symbols."""
    got = codec.decode(codec.encode(symbols, levels), symbols.shape, levels)
    if wrong := int((got != symbols).sum()):
        raise CodecError(
            f"{type(codec).__name__} is not lossless: {wrong} of an image's {symbols.size} symbols came back changed, "
            "and no figure would be of what is sent; mend it, with the help of splitlearn.testing.CodecContract"
        )


def codec_name(codec: Codec) -> str:
    """Return class and arguments of a codec, which identify its saved tables."""
    return f"{type(codec).__qualname__}{init_args(codec) or ''}"


def integers(stored: NDArray[np.uint8], dtype: torch.dtype, is_scalar: bool) -> Tensor:
    """Return the integer tensor of a container's bytes; raise CodecError if a bool is neither 0 nor 1."""
    if dtype is torch.bool and bool((stored > 1).any()):
        raise CodecError("the payload holds truth values that are neither 0 nor 1: it is forged")
    found = torch.from_numpy(stored).view(dtype)
    return found.reshape(()) if is_scalar else found


def received(
    tensors: Sequence[Symbols], quantizer: Quantizer | None, dtype: torch.dtype, is_scalar: bool, device: torch.device
) -> Tensor:
    """Return the latents or integers `(B, …)` of a batch of images, from one container of each."""
    if quantizer is None:
        return torch.stack([integers(stored, dtype, is_scalar) for stored, _ in tensors]).to(device)
    symbols = torch.from_numpy(np.stack([stored for stored, _ in tensors]))
    return quantizer.dequantize(symbols.to(device), torch.tensor([v for _, v in tensors]).float().to(device))


@contextmanager
def codec_errors(what: str) -> Iterator[None]:
    """Turn errors of a network on the contents of a payload into CodecError, except for lack of memory."""
    try:
        yield
    except (CodecError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CodecError(f"the network fails on {what}, which a payload holds: {reason}") from error


def _weights_type(dtype: torch.dtype) -> torch.dtype | None:
    """Return the dtype of a bottleneck's weights for features of a dtype; None for integer features."""
    return dtype if dtype.is_floating_point else None


def _one_each(parts: T | list[T], count: int, name: str, at: str) -> list[T]:
    if not isinstance(parts, (list, tuple)):
        return [parts] * count
    if len(parts) != count:
        raise ValueError(f"{count} float tensors cross at {at!r}, but there are {len(parts)} {name}: give one for each")
    return list(parts)
