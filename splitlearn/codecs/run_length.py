"""Zero run-length code with codewords of one width: little to compute, meant for devices."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import SLACK, padded
from splitlearn.codecs._run_length_kernels import OK, TRUNCATED, decode_runs, encode_runs
from splitlearn.codecs.base import Codec, CodecError, symbol_bits

_PROBLEMS = (
    "",
    "the payload is truncated",
    "the payload has trailing bytes",
    "a padding bit is set",
    "a zero is coded as a literal",
    "a run of zeros is split before it is full",
    "a run of zeros passes the end of the array",
)


class RunLength(Codec):
    """Codewords of n+1 bits, n = ⌈log₂ levels⌉: flag 0 and a non-zero symbol, or flag 1 and (run of zeros − 1).

    A run that is longer than 2ⁿ is split into full runs and the rest, so 20 zeros at n = 3 become 8, 8, 4; every zero
    is part of a run, if only of one. Bits stand most significant first, zero bits fill the last byte, and there is no
    header. The code of an array is unique, and the decoder takes nothing else.

    Reference: Carra & Neglia 2023, Sec. VI.
    """

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        bits = symbol_bits(levels)
        symbols = symbols.reshape(-1)
        payload = np.empty((symbols.size * (bits + 1) + 7) // 8 + SLACK, np.uint8)
        return payload[: encode_runs(symbols, bits, payload)].tobytes()

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        bits, count = symbol_bits(levels), math.prod(shape)
        if count > payload.size * 8 // (bits + 1) << bits:
            raise CodecError(f"{payload.size} bytes are too few for {count} symbols: {_PROBLEMS[TRUNCATED]}")
        symbols = np.zeros(count, np.uint8)
        problem = decode_runs(padded(payload), payload.size, bits, symbols)
        if problem != OK:
            raise CodecError(_PROBLEMS[problem])
        return symbols
