"""What an edge server makes of the containers of a payload, and of networks that fail on what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from splitlearn.codecs import CodecError
from splitlearn.codecs.message import Part
from splitlearn.quantizers import Quantizer


def integers(part: Part, dtype: torch.dtype) -> Tensor:
    """Return the integers that a container holds.

    Raises:
        CodecError: if they are to be truth values, and are others than 0 and 1.
    """
    stored = torch.from_numpy(part.decoded())
    if dtype is torch.bool and bool((stored > 1).any()):
        raise CodecError("the payload holds truth values that are neither 0 nor 1: it is forged")
    found = stored.view(dtype)
    return found.reshape(()) if part.carrier.is_scalar else found


def dequantized(parts: Sequence[Part], quantizer: Quantizer, device: torch.device) -> Tensor:
    """Return the latents `(B, …)` of a batch of images, from one container of each."""
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


def too_many_pixels(height: int, width: int, max_pixels: int) -> str:
    """Return what is said of an image that has too many pixels."""
    return f"an image of {height}×{width} pixels is larger than {max_pixels:,} in all: set max_pixels higher"
