"""Edge server side of the feature coder: tensors from the containers of a payload, errors of networks on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from splitlearn.codecs import CodecError
from splitlearn.codecs.payload_coder import Part
from splitlearn.quantizers import Quantizer


def integers(part: Part, dtype: torch.dtype) -> Tensor:
    """Return the integer tensor of a container; raise CodecError if a bool is neither 0 nor 1."""
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
    """Turn errors of a network on the contents of a payload into CodecError, except for lack of memory."""
    try:
        yield
    except (CodecError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CodecError(f"the network fails on {what}, which a payload holds: {reason}") from error


def too_many_pixels(height: int, width: int, max_pixels: int) -> str:
    """Return the error message for an image with too many pixels."""
    return f"an image of {height}×{width} pixels is larger than {max_pixels:,} in all: set max_pixels higher"
