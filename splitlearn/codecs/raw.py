"""One byte per symbol: no compression."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import Codec, CodecError


class Raw(Codec):
    """Uncompressed symbols, one byte each: the baseline, and the code of integer tensors."""

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        return symbols.tobytes()

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        count = math.prod(shape)
        if payload.size != count:
            raise CodecError(
                f"the payload is truncated or has trailing bytes: {payload.size} bytes for {count} symbols"
            )
        return payload.copy()
