"""Device side of the feature coder: symbols from latents, and the check of codecs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splitlearn.codecs import Codec, CodecError
from splitlearn.outputs import init_args
from splitlearn.quantizers import Quantizer


def container_contents(tensor: Tensor, quantizer: Quantizer | None) -> list[tuple[NDArray[np.uint8], list[float]]]:
    """Return the content of one tensor's container for each image: symbols and floats, or the bytes of integers."""
    if quantizer is None:
        return [(np.ascontiguousarray(row).view(np.uint8), []) for row in tensor.cpu().numpy()]
    symbols, floats = (t.cpu().numpy() for t in quantizer.quantize(tensor))
    return list(zip(symbols, floats.tolist(), strict=True))


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
