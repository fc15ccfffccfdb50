"""Zstandard on one byte a symbol: the fast general-purpose baseline."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import Codec, CodecError

MAX_RATIO = 1 << 15  # bytes that one byte of a frame can stand for: blocks of 128 KiB in no less than 4 bytes
MAX_WINDOW = 1 << 27  # bytes; no level writes frames that need more to be decoded


class Zstandard(Codec):
    """Symbols as bytes in one Zstandard frame that tells its content size, without a check sum.

    The code of an empty array is empty. Two releases of the library may write different bytes for the same symbols;
    each reads what the other wrote.

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
        import zstandard  # here, so that the room loads without it

        if symbols.size == 0:
            return b""
        return zstandard.ZstdCompressor(level=self.level).compress(symbols.tobytes())

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        import zstandard

        count = math.prod(shape)
        if count == 0:
            if payload.size:
                raise CodecError("the payload has trailing bytes: an empty array has an empty code")
            return np.empty(0, np.uint8)
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
