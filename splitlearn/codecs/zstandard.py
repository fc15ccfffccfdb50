"""Zstandard on one byte a symbol: the fast general-purpose baseline."""

from __future__ import annotations

import math
from collections import deque
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import Codec, CodecError

MAX_RATIO = 1 << 15  # bytes that one byte of a frame can stand for: blocks of 128 KiB in no less than 4 bytes
MOST_IDLE = 8  # compressors of a level that are kept; each takes some 50 KB to 2 MB, more at high levels
MAX_WINDOW = 1 << 27  # bytes; no level writes frames that need more to be decoded


class Zstandard(Codec):
    """Symbols as bytes in one Zstandard frame that tells its content size, without a check sum.

    Around the order-0 entropy of activations (0.85 to 1.25 times at effort 3), two to three times as fast as zlib-1.
    Use it to compare. Two releases of the library may write different bytes for the same symbols; each reads what the
    other wrote.

    Args:
        level: effort, 1 (fastest) … 22 (smallest).

    Raises:
        ValueError: if `level` is out of range.

    Reference: Collet & Kucherawy 2021 (RFC 8878).
    """

    def __init__(self, level: int = 3) -> None:
        if not 1 <= level <= 22:
            raise ValueError(f"level must lie in 1…22, got {level}")
        self.level = level

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        idle = _idle(self.level)
        try:
            compressor = idle.pop()
        except IndexError:  # all are in use
            compressor = _compressor(self.level)
        compressed: bytes = compressor.compress(symbols.tobytes())
        idle.append(compressor)
        return compressed

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        import zstandard  # here, so that the room loads without it

        count = math.prod(shape)
        if count > payload.size * MAX_RATIO:
            raise CodecError(f"the payload is truncated: {payload.size} bytes are too few for {count} symbols")
        frame = payload.tobytes()
        try:
            # The library allocates the size that a frame claims, and no more: so that size comes first.
            if zstandard.frame_content_size(frame) != count:
                raise CodecError(f"the payload does not claim to hold {count} symbols")
            symbols = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CodecError(f"the payload is not one whole Zstandard frame: {error}") from error
        return np.frombuffer(symbols, np.uint8).copy()


@cache
def _idle(level: int) -> deque[Any]:
    """Compressors that no thread uses now: making one takes longer than coding a small array, and none may be shared.

    There are never more than `MOST_IDLE`, however many threads there have been.
    """
    return deque(maxlen=MOST_IDLE)


def _compressor(level: int) -> Any:
    import zstandard  # here, so that the room loads without it

    return zstandard.ZstdCompressor(level=level)
