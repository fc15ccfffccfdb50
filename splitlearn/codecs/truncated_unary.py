"""Truncated unary binarisation with an adaptive binary arithmetic coder."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import padded
from splitlearn.codecs._truncated_unary_kernels import OK, TRUNCATED, count_bits, decode_bins, encode_bins
from splitlearn.codecs.base import Codec, CodecError, checked_levels, checked_symbols

MAX_RATIO = 11_357  # symbols per byte: 8 · ln 2 · 65536 / LEAST, for the least probability LEAST / 65536 of a bin


class TruncatedUnary(Codec):
    """Symbol n as n ones and a zero (the last symbol without it); each bit (bin) is coded with an adaptive probability.

    With 4 levels, the symbols are written as 0, 10, 110 and 111. Each of the positions 0, 1, … of a bin has its own
    probability, the mean of a fast and a slow running estimate, which both start as plain averages. The code thus
    adapts to the statistics of channels and rows, and needs no table. Probabilities and intervals are integers (see
    `_truncated_unary_kernels`), so that bytes are the same on every machine.

    A code is one or two bytes longer than the ideal size. It is unique, and the decoder accepts no other. Feature maps
    take 10 to 40 % less than the order-0 entropy, because the code adapts; independent symbols take 3 to 6 % more. It
    is slow, in proportion to the number of bins: use it for up to about 8 levels, if tables can be neither static nor
    sent. `ContextRANS` is smaller and faster on maps.

    Reference: Cohen, Choi & Bajić 2020 (lightweight compression of intermediate features).
    """

    def ideal_bits(self, symbols: NDArray[np.uint8], levels: int) -> float:
        """Return the ideal size of the code of `symbols` in bits: the sum of −log₂ of the adaptive probabilities.

        Args:
            symbols: uint8 array of any shape, every value below `levels`, at most 2³¹−1 of them.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if `encode` would refuse the arguments.
        """
        levels = checked_levels(levels)
        return float(count_bits(checked_symbols(symbols, levels).reshape(-1), levels))

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        return encode_bins(symbols.reshape(-1), levels).tobytes()

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        count = math.prod(shape)
        if count > payload.size * MAX_RATIO:
            raise CodecError(f"the payload is truncated: {payload.size} bytes are too few for {count} symbols")
        symbols = np.empty(count, np.uint8)
        problem = decode_bins(padded(payload), payload.size, levels, symbols)
        if problem == TRUNCATED:
            raise CodecError(f"the payload is truncated: it ends before {count} symbols are complete")
        if problem != OK:
            raise CodecError("the payload is truncated, has trailing bytes or was not written by this code")
        return symbols
