"""What an edge server checks of a payload before it decodes it.

A check sum finds damage, but anybody can make it right. So every header is compared with what the model can have sent:
levels, floats, and the shape, which is fixed, or bounded where a network takes images of several sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splitlearn.codecs import Codec, CodecError, Raw
from splitlearn.codecs.container import Header, decode_body, next_context, read_header
from splitlearn.codecs.latents import check_quantizer
from splitlearn.models.message import split_parts
from splitlearn.quantizers import Quantizer

BYTE = 256
RAW: Codec = Raw()


@dataclass(frozen=True)
class Carrier:
    """How one tensor crosses.

    Attributes:
        dtype: type of the tensor.
        codec: symbols to bytes.
        quantizer: floats to symbols; None for integers, which cross as their bytes.
        is_scalar: whether an image has one integer, which then crosses as an array of one.
    """

    dtype: torch.dtype
    codec: Codec = RAW
    quantizer: Quantizer | None = None
    is_scalar: bool = False

    def shape_of(self, header: Header) -> tuple[int, ...]:
        """Return the shape of an image's tensor, given the header of its container.

        Raises:
            CodecError: if it cannot come from this quantizer, or cannot be integers of this type.
        """
        if self.quantizer is not None:
            check_quantizer(header, self.quantizer.levels, self.quantizer.floats_per_image, self.quantizer)
            return header.shape
        size = self.dtype.itemsize
        if header.levels != BYTE or header.floats or not header.shape or header.shape[-1] % size:
            raise CodecError(f"the payload holds no integers of {size} bytes: it is forged, or of another model")
        return (*header.shape[:-1], header.shape[-1] // size)


@dataclass(frozen=True)
class Part:
    """One container of a payload, whose check sum is right.

    Attributes:
        payload: the container.
        header: what it says.
        carrier: how its tensor crosses.
        shape: shape of its tensor.
    """

    payload: bytes
    header: Header
    carrier: Carrier
    shape: tuple[int, ...]

    def decoded(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Return the symbols, or the bytes of integers."""
        return decode_body(self.payload, self.header, self.carrier.codec)

    def integers(self) -> Tensor:
        """Return the integers of an integer tensor.

        Raises:
            CodecError: if they are to be truth values, and are others than 0 and 1.
        """
        stored = torch.from_numpy(self.decoded())
        if self.carrier.dtype is torch.bool and bool((stored > 1).any()):
            raise CodecError("the payload holds truth values that are neither 0 nor 1: it is forged")
        found = stored.view(self.carrier.dtype)
        return found.reshape(()) if self.carrier.is_scalar else found


def read_parts(payload: bytes, carriers: Sequence[Carrier], context: int) -> list[Part]:
    """Return the containers of a payload, in order, with their headers checked; nothing is decoded.

    Each but the first has the check sum of the one before in its own, so that none can be exchanged.

    Raises:
        CodecError: on any damage, or if the payload cannot come from these quantizers and codecs.
    """
    parts = []
    for container, carrier in zip(split_parts(payload, len(carriers)), carriers, strict=True):
        header = read_header(container, carrier.codec, context)
        parts.append(Part(container, header, carrier, carrier.shape_of(header)))
        context = next_context(container, context)
    return parts


def check_shape(found: tuple[int, ...], known: tuple[int, ...], varying: Sequence[bool], max_growth: float) -> None:
    """Raise CodecError unless a tensor has the example's shape, but for those dimensions that follow the image's size.

    Args:
        found: shape that a payload tells.
        known: that of the example's.
        varying: which dimensions may differ.
        max_growth: how many times as many elements it may have then.
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


def unpacked(parts: Sequence[Part], device: torch.device) -> Tensor:
    """Return one tensor of a batch of images, `(B, …)`, from its containers."""
    quantizer = parts[0].carrier.quantizer
    if quantizer is None:
        return torch.stack([part.integers() for part in parts]).to(device)
    symbols = torch.from_numpy(np.stack([part.decoded() for part in parts]))
    floats = torch.tensor([part.header.floats for part in parts], dtype=torch.float32)
    return quantizer.dequantize(symbols.to(device), floats.to(device))


@contextmanager
def codec_errors(what: str) -> Iterator[None]:
    """Turn whatever a network raises on something that a payload holds into a CodecError; lack of memory stays."""
    try:
        yield
    except (CodecError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CodecError(f"the network fails on {what}, which a payload holds: {said}") from error


def too_large(found: tuple[int, ...], known: tuple[int, ...], max_growth: float) -> str:
    """Return what is said of a tensor that has too many elements."""
    return (
        f"a tensor of shape {found} has more than {max_growth:g} times the elements of the example's, {known}: set the "
        "cut's max_growth higher, or split the network with a larger example"
    )


def too_many_pixels(height: int, width: int, max_pixels: int) -> str:
    """Return what is said of an image that has too many pixels."""
    return f"an image of {height}×{width} pixels is larger than {max_pixels:,} in all: set max_pixels higher"
