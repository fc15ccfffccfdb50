"""Conversion of the tensors of one image to its payload, one container for each crossing tensor, without torch.

Containers are chained: the context of each but the first contains the checksum of the previous one, so that an
exchange of parts between payloads is detected. A checksum does not protect against forgery. Therefore levels, floats
and shape of every header are checked before anything is decoded. The shape is fixed, or bounded for networks that take
images of several sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import Codec, CodecError, Payload, checked_levels
from splitlearn.codecs.container import (
    Header,
    decode_body,
    join_parts,
    next_context,
    read_header,
    sealed,
    split_parts,
    tagged,
    untagged,
)
from splitlearn.codecs.raw import Raw
from splitlearn.numpy_quantizers import Grid

BYTE = 256
RAW: Codec = Raw()


class Quantized(Protocol):
    """The attributes of a quantizer, torch or numpy, that a receiver needs."""

    @property
    def levels(self) -> int:
        """Size of the alphabet."""

    @property
    def floats_per_image(self) -> int:
        """Number of floats that a payload contains in addition to the symbols."""


@dataclass(frozen=True)
class Carrier:
    """How one crossing tensor becomes bytes: its quantizer and its codec.

    Attributes:
        codec: symbols to bytes.
        quantizer: floats to symbols; None for integers, which cross as raw bytes.
        itemsize: bytes per integer.
        is_scalar: whether the tensor is one integer per image, which crosses as an array of one element.

    Raises:
        ValueError: if the quantizer's levels are not in 2…256.
    """

    codec: Codec = RAW
    quantizer: Quantized | None = None
    itemsize: int = 1
    is_scalar: bool = False

    def __post_init__(self) -> None:
        checked_levels(self.levels)

    @property
    def levels(self) -> int:
        """Size of the alphabet."""
        return BYTE if self.quantizer is None else self.quantizer.levels

    def quantized(self, latent: NDArray[np.generic]) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
        """Return symbols and floats of a latent, or bytes of integers; raises ValueError as `PayloadCoder.encode`."""
        if self.quantizer is None:
            return np.ascontiguousarray(latent).view(np.uint8), ()
        return _grid(self).quantize(latent)  # type: ignore[arg-type]

    def restored(self, symbols: NDArray[np.uint8], floats: tuple[float, ...]) -> NDArray[np.generic]:
        """Return the latent of symbols, or the bytes of integers."""
        return symbols if self.quantizer is None else _grid(self).dequantize(symbols, floats)

    def shape_of(self, header: Header) -> tuple[int, ...]:
        """Return the shape of the tensor in a container with this header.

        Raises:
            CodecError: if the header does not fit this quantizer or integer size.
        """
        if self.quantizer is not None:
            check_quantizer(header, self.quantizer.levels, self.quantizer.floats_per_image, self.quantizer)
            return header.shape
        size = self.itemsize
        if header.levels != BYTE or header.floats or not header.shape or header.shape[-1] % size:
            raise CodecError(f"the payload holds no integers of {size} bytes: it is forged, or of another model")
        return (*header.shape[:-1], header.shape[-1] // size)


@dataclass(frozen=True)
class Part:
    """One container of a payload, whose checksum is correct.

    Attributes:
        payload: the container.
        header: its header.
        carrier: quantizer and codec of its tensor.
        shape: shape of its tensor.
    """

    payload: bytes
    header: Header
    carrier: Carrier
    shape: tuple[int, ...]

    def decoded(self, reference: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return the symbols, or the bytes of integers, coded beside a reference of the same shape if one is given."""
        return decode_body(self.payload, self.header, self.carrier.codec, reference)


@dataclass(frozen=True)
class PayloadCoder:
    """Packs the symbols or latents of one image into a payload and unpacks them, with numpy only.

    For receivers and devices without torch; `FeatureCoder` is the torch version.

    Attributes:
        carriers: quantizer and codec of each crossing tensor, in order. `encode` and `decode` need numpy quantizers
            (`Grid`); `pack` and `unpack` accept any.
        context: 32-bit checksum of cut and quantizers, equal to `FeatureCoder.context`.
        shapes: shapes of the tensors for one image of the size of the example image with which the network was split.
            None if shapes are not checked here: trust the sender or check the shapes yourself.
        varying: one tuple of bools per tensor, as long as its shape: True where the dimension depends on the image
            size. Required with `shapes`.
        max_growth: largest allowed ratio of a tensor's elements to those for the example image; 1.0 allows no growth.
    """

    carriers: tuple[Carrier, ...]
    context: int
    shapes: tuple[tuple[int, ...], ...] | None = None
    varying: tuple[tuple[bool, ...], ...] = ()
    max_growth: float = 1.0

    def pack(self, tensors: Sequence[tuple[NDArray[np.uint8], Sequence[float]]]) -> bytes:
        """Return the payload of one image.

        Args:
            tensors: for each tensor, symbols (or bytes of integers) and floats of the quantizer.

        Raises:
            ValueError: if symbols or floats do not fit their carrier.
        """
        parts, context = [], self.context
        for (symbols, floats), carrier in zip(tensors, self.carriers, strict=True):
            codec, levels = carrier.codec, carrier.levels
            parts.append(sealed(codec._encode_checked(symbols, levels), symbols.shape, levels, codec, floats, context))
            context = next_context(parts[-1], context)
        return join_parts(parts)

    def read(self, payload: Payload) -> list[Part]:
        """Return the containers of a payload, in order, with checked headers; nothing is decoded.

        Raises:
            CodecError: if the payload is damaged, if other quantizers or codecs made it, or if its tensors have shapes
                that are not allowed here.
        """
        parts, context = [], self.context
        for container, carrier in zip(split_parts(payload, len(self.carriers)), self.carriers, strict=True):
            header = read_header(container, carrier.codec, context)
            context = next_context(container, context)
            parts.append(Part(container, header, carrier, carrier.shape_of(header)))
        if self.shapes is not None:
            for part, known, varying in zip(parts, self.shapes, self.varying, strict=True):
                check_shape(part.shape, known, varying, self.max_growth)
        return parts

    def unpack(self, payload: Payload) -> list[tuple[NDArray[np.uint8], tuple[float, ...]]]:
        """Return the symbols, or the bytes of integers, and the floats of each tensor; raises as `read`."""
        return [(part.decoded(), part.header.floats) for part in self.read(payload)]

    def encode(self, latents: Sequence[NDArray[np.generic]]) -> bytes:
        """Return the payload of one image.

        Args:
            latents: float32 arrays, which are quantized, and integer arrays. An integer scalar becomes an array of one
                element.

        Raises:
            ValueError: if there is not one latent for each carrier; if a latent that has a quantizer is not float32, or
                holds NaN or infinity; or if a quantizer is not a numpy one.
        """
        pairs = self.matched(latents)
        return self.pack([carrier.quantized(latent) for latent, carrier in pairs])

    def matched(self, latents: Sequence[NDArray[np.generic]]) -> list[tuple[NDArray[np.generic], Carrier]]:
        """Return each latent of an image with its carrier.

        Raises:
            ValueError: if there is not one latent for each carrier.
        """
        if len(latents) != len(self.carriers):
            raise ValueError(
                f"take one array for each tensor that crosses the cut, {len(self.carriers)} here, got {len(latents)}: "
                "a single array is given as [array]"
            )
        return list(zip(latents, self.carriers, strict=True))

    def decode(self, payload: Payload) -> list[NDArray[np.generic]]:
        """Return the latents of one payload.

        Returns:
            Dequantized latents in float32. An integer array comes back as its raw bytes: uint8, with the last axis
            `itemsize` times longer. Restore it with `.view(dtype)`.

        Raises:
            CodecError: as `read`.
            ValueError: if a quantizer is not a numpy one.
        """
        return [part.carrier.restored(part.decoded(), part.header.floats) for part in self.read(payload)]


def _grid(carrier: Carrier) -> Grid:
    if not isinstance(carrier.quantizer, Grid):
        raise ValueError(f"{carrier.quantizer} has no twin in numpy: quantize with torch, and pack the symbols")
    return carrier.quantizer


def check_quantizer(header: Header, levels: int, floats: int, name: object) -> None:
    """Raise CodecError if a container cannot come from the expected quantizer.

    Args:
        header: header of the container.
        levels: levels of the quantizer.
        floats: number of floats that the quantizer sends for each image.
        name: the quantizer, for the error message.
    """
    if header.levels != levels or len(header.floats) != floats:
        raise CodecError(
            f"the payload was not quantized by {name}: it has {header.levels} levels and {len(header.floats)} floats, "
            f"not {levels} and {floats}"
        )
    if not all(map(math.isfinite, header.floats)):
        raise CodecError(f"the payload was not quantized by {name}: its floats {header.floats} are not finite")


def check_shape(found: tuple[int, ...], known: tuple[int, ...], varying: Sequence[bool], max_growth: float) -> None:
    """Raise CodecError if the shape that a payload claims for a tensor is not allowed.

    Each dimension must be as for the example image with which the network was split, except for those that depend on
    the image size; and the number of elements is limited, so that a forged payload cannot make the receiver fill its
    memory.

    Args:
        found: shape that the payload claims.
        known: shape for the example image.
        varying: for each dimension, whether it depends on the image size.
        max_growth: largest allowed number of elements, relative to the example image's.
    """
    if found == known:
        return
    fits = (a == b or (free and a > 0) for a, b, free in zip(found, known, varying, strict=False))
    if len(found) != len(known) or not all(fits):
        raise CodecError(
            f"the payload holds a tensor of shape {found}, and {known} crosses this cut: another model made it, or it "
            "is of an image of another size"
        )
    if math.prod(found) > max_growth * math.prod(known):
        raise CodecError(too_large(found, known, max_growth))


def too_large(found: tuple[int, ...], known: tuple[int, ...], max_growth: float) -> str:
    """Return the error message of `check_shape` for a tensor with too many elements."""
    return (
        f"a tensor of shape {found} has more than {max_growth:g} times the elements of the example's, {known}: set the "
        "cut's max_growth higher, or split the network with a larger example"
    )


def tag_message(payload: bytes, count: int, tag: int) -> bytes:
    """Return a payload of `count` containers with the number `tag` in spare bits of the first; the size stays equal."""
    first, *others = split_parts(payload, count)
    return join_parts([tagged(first, tag), *others])


def untag_message(payload: bytes, count: int) -> tuple[int, bytes]:
    """Return the tag of a payload of `count` containers, and the payload without it.

    Raises:
        CodecError: if the payload ends inside a part, or does not begin with a container.
    """
    first, *others = split_parts(payload, count)
    tag, plain = untagged(first)
    return tag, join_parts([plain, *others])
