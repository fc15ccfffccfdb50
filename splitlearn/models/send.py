"""What a device makes of latents: containers, each tied to the one before it in its payload."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splitlearn.codecs import Codec, CodecError, pack
from splitlearn.models.receive import BYTE, Carrier
from splitlearn.outputs import init_args


def packed(tensor: Tensor, carrier: Carrier, contexts: Sequence[int]) -> list[bytes]:
    """Return one container an image for one tensor that crosses."""
    if carrier.quantizer is None:
        rows = (np.ascontiguousarray(row).view(np.uint8) for row in tensor.cpu().numpy())
        return [pack(row, BYTE, carrier.codec, (), context) for row, context in zip(rows, contexts, strict=True)]
    symbols, floats = (t.cpu().numpy() for t in carrier.quantizer.quantize(tensor))
    return [
        pack(s, carrier.quantizer.levels, carrier.codec, f.tolist(), context)
        for s, f, context in zip(symbols, floats, contexts, strict=True)
    ]


def check_lossless(codec: Codec, symbols: NDArray[np.uint8], levels: int) -> None:
    """Raise CodecError if a codec gives back other symbols than it was given."""
    got = codec.decode(codec.encode(symbols, levels), symbols.shape, levels)
    if wrong := int((got != symbols).sum()):
        raise CodecError(
            f"{type(codec).__name__} is not lossless: {wrong} of an image's {symbols.size} symbols came back changed, "
            "and no figure would be of what is sent; mend it, with the help of splitlearn.testing.CodecContract"
        )


def codec_name(codec: Codec) -> str:
    """Return class and arguments of a codec, by which saved tables are known to be its own."""
    return f"{type(codec).__qualname__}{init_args(codec) or ''}"
